/**
 * The base images that a member's initial sync writes, with their checksums. A base is a sparse file of the volume's
 * size; it is written directly by a sync only until it is complete, and never again (R6); later retention moves it
 * (retention/base_roll.ts).
 *
 * Nothing here decides: the session machine says when to begin, write and sync, and the caller keeps that order per
 * volume. Descriptors stay open from the first write to close().
 */
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError } from '../proto/errors.js';
import { syncDirectory } from '../service/durable_file.js';
import { named } from '../service/system_errors.js';
import { sumsFile } from './store.js';
/** Of a base are written before room is looked for again. */
const CHECK_BYTES = 4 * 1024 * 1024;
export class BaseImages {
    parts;
    room;
    devices = new Map();
    uncheckedBytes = CHECK_BYTES;
    constructor(parts, room) {
        this.parts = parts;
        this.room = room;
    }
    /** Makes `file` an empty image of `size` bytes, durably, whatever it held. Errors: JOURNAL_FULL, IO_ERROR. */
    async begin(file, size) {
        await this.release(file);
        await named(makeEmpty(file, size), file, 'JOURNAL_FULL');
    }
    /** Checks, expands and writes one piece. Errors: MESSAGE_INVALID, BACKING_*, JOURNAL_FULL, IO_ERROR. */
    async write(file, piece) {
        const { offset, rawBytes, compressed, data } = piece;
        if (this.parts.crc32c(data) !== piece.crc32c) {
            throw new AfterimageError('MESSAGE_INVALID', `sync data at ${offset}: its checksum does not match`);
        }
        const bytes = compressed ? this.parts.decompress(data, rawBytes) : data;
        if (bytes.length !== rawBytes) {
            throw new AfterimageError('MESSAGE_INVALID', `sync data at ${offset}: ${bytes.length} bytes, not ${rawBytes}`);
        }
        this.uncheckedBytes += bytes.length;
        if (this.uncheckedBytes >= CHECK_BYTES) {
            await this.room.check();
            this.uncheckedBytes = 0;
        }
        const device = await this.device(file);
        await named(device.write(offset, bytes), file, 'JOURNAL_FULL');
    }
    /** Makes everything written so far durable. Errors: JOURNAL_FULL, IO_ERROR. */
    async sync(file) {
        await named((await this.device(file)).flush(), file, 'JOURNAL_FULL');
    }
    /** Everything was written: what no piece touched has its checksum too, durably. Errors: as sync. */
    async seal(file) {
        await this.sync(file);
        await this.release(file);
        await named(this.parts.completeBase(file), file, 'JOURNAL_FULL');
    }
    /** Closes one image, if it is open. */
    async release(file) {
        const device = this.devices.get(file);
        this.devices.delete(file);
        await device?.close();
    }
    async close() {
        for (const file of [...this.devices.keys()])
            await this.release(file);
    }
    async device(file) {
        const open = this.devices.get(file);
        if (open !== undefined)
            return open;
        const device = await this.parts.openBase(file);
        this.devices.set(file, device);
        return device;
    }
}
async function makeEmpty(file, size) {
    // First: what they say is of what the image held.
    await rm(sumsFile(file), { force: true });
    await syncDirectory(path.dirname(file));
    const handle = await open(file, 'w', 0o600);
    try {
        await handle.truncate(Number(size));
        await handle.sync();
    }
    finally {
        await handle.close();
    }
    await syncDirectory(path.dirname(file));
}
//# sourceMappingURL=base_images.js.map