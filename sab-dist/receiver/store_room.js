/**
 * How much room the file system of the store has, and what of it is kept for those who make more: a full disk is freed by
 * shortening history, for which bases and the catalog are written first.
 *
 * Two things are kept. The *headroom* is what ingest leaves free: new segments and an initial sync count the disk as full
 * before it is. A part of it is *set aside* in a file, against all others who write to that file system: it is given up
 * when next to nothing else is left, and set aside again later.
 */
import { randomBytes } from 'node:crypto';
import { open, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError } from '../proto/errors.js';
import { named } from '../service/system_errors.js';
const MIB = 1024n * 1024n;
/** Of a small file system the headroom is a sixteenth. */
const SMALL_PART = 16n;
/** Of the headroom. */
const ASIDE_PART = 4n;
/** Bytes that somebody without privileges could still write there. Errors: IO_ERROR. */
export async function freeBytes(directory) {
    const { bavail, bsize } = await named(statfs(directory, { bigint: true }), directory);
    return bavail * bsize;
}
export class StoreRoom {
    directory;
    headroomBytes;
    isAside = false;
    constructor(directory, 
    /** What ingest leaves free. */
    headroomBytes) {
        this.directory = directory;
        this.headroomBytes = headroomBytes;
    }
    /** Errors: IO_ERROR. */
    static async measure(directory, segmentBytes) {
        const { blocks, bsize } = await named(statfs(directory, { bigint: true }), directory);
        const wanted = 2n * segmentBytes + 32n * MIB;
        const part = (blocks * bsize) / SMALL_PART;
        return new StoreRoom(directory, part < wanted ? part : wanted);
    }
    freeBytes() {
        return freeBytes(this.directory);
    }
    /** Errors: JOURNAL_FULL when no more than the headroom is left; IO_ERROR. */
    async check() {
        if ((await this.freeBytes()) >= this.headroomBytes)
            return;
        throw new AfterimageError('JOURNAL_FULL', `${this.directory}: what is left is kept for the receiver itself`);
    }
    /** Size of the part that is set aside. */
    get asideBytes() {
        return this.headroomBytes / ASIDE_PART;
    }
    /** Sets it aside, if it is not. Errors: DISK_FULL, IO_ERROR. */
    async setAside() {
        if (this.isAside)
            return;
        const bytes = Number(this.asideBytes);
        const size = await stat(this.file).then((found) => found.size, () => 0);
        if (size !== bytes) {
            await this.use();
            await named(this.fill(bytes), this.file);
        }
        this.isAside = true;
    }
    /** Gives it up. Errors: IO_ERROR. */
    async use() {
        await named(rm(this.file, { force: true }), this.file);
        this.isAside = false;
    }
    /** With bytes that no file system makes smaller. */
    async fill(bytes) {
        const file = await open(this.file, 'w', 0o600);
        try {
            const piece = randomBytes(Number(MIB));
            for (let left = bytes; left > 0; left -= piece.length) {
                await file.write(piece, 0, Math.min(left, piece.length));
            }
            await file.sync();
        }
        finally {
            await file.close();
        }
    }
    get file() {
        return path.join(this.directory, 'reserve');
    }
}
//# sourceMappingURL=store_room.js.map