/**
 * States of a disk as directories. Files of which nothing is uncertain are kept aside and linked, so that a state costs
 * what differs; whoever opens a state may do with it what it likes: a kept file that was changed is written anew.
 */
import { link, mkdir, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
/** Smaller ones are written each time: they are the ones that are written to in place. */
const LINKED_BYTES_MIN = 64 * 1024;
const OWNER_ONLY = 0o700;
/** Of one disk: its files are known by their numbers. */
export class StateDirectories {
    root;
    kept = new Map();
    made = 0;
    /** `root`: an empty directory, best on a file system in memory. */
    constructor(root) {
        this.root = root;
    }
    /** Makes the state in a directory of its own; returns its path. */
    async make({ directories, files }) {
        this.made += 1;
        const directory = path.join(this.root, `state-${this.made}`);
        await mkdir(directory, { mode: OWNER_ONLY });
        for (const name of directories)
            await mkdir(path.join(directory, name), { mode: OWNER_ONLY });
        for (const file of files) {
            const target = path.join(directory, file.path);
            if (!(await this.linked(file, target)))
                await writeSparse(target, file.content());
        }
        return directory;
    }
    /** Of the root: it is the caller's to remove. */
    get directory() {
        return this.root;
    }
    async remove(directory) {
        await rm(directory, { recursive: true, force: true });
    }
    async linked(file, target) {
        if (!file.isCertain)
            return false;
        const source = path.join(this.root, `file-${file.number}`);
        const kept = this.kept.get(file.number);
        const isFresh = kept?.version === file.version && (await isUnchanged(source, kept));
        if (!isFresh) {
            const content = file.content();
            if (content.length < LINKED_BYTES_MIN)
                return false;
            await rm(source, { force: true });
            await writeSparse(source, content);
            const { mtimeNs, size } = await stat(source, { bigint: true });
            this.kept.set(file.number, { version: file.version, mtimeNs, size });
        }
        await link(source, target);
        return true;
    }
}
async function isUnchanged(file, { mtimeNs, size }) {
    const now = await stat(file, { bigint: true });
    return now.mtimeNs === mtimeNs && now.size === size;
}
const ZEROES = Buffer.alloc(64 * 1024);
async function writeSparse(file, content) {
    const handle = await open(file, 'wx', 0o600);
    try {
        await handle.truncate(content.length);
        for (let at = 0; at < content.length; at += ZEROES.length) {
            const part = content.subarray(at, at + ZEROES.length);
            if (part.equals(ZEROES.subarray(0, part.length)))
                continue;
            await handle.write(part, 0, part.length, at);
        }
    }
    finally {
        await handle.close();
    }
}
//# sourceMappingURL=state_directory.js.map