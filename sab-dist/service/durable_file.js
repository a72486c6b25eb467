/** Small files that are either the old or the new one, whatever happens, and that survive a power cut. */
import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';
/** Replaces `file` (mode 0600) by one that holds `text`. On stable storage when the promise settles. */
export async function writeDurably(file, text) {
    const unfinished = `${file}.tmp`;
    const handle = await open(unfinished, 'w', 0o600);
    try {
        await handle.writeFile(text);
        await handle.sync();
    }
    finally {
        await handle.close();
    }
    await rename(unfinished, file);
    await syncDirectory(path.dirname(file));
}
/** Makes what was created, renamed or removed in `directory` durable. */
export async function syncDirectory(directory) {
    const handle = await open(directory, 'r');
    try {
        await handle.sync();
    }
    finally {
        await handle.close();
    }
}
/**
 * Makes `directory` where it is not there yet, with those above it, each on stable storage in the one that holds it: else a
 * power loss could take away what lies in it, however often that was synced. `sync`: for tests.
 */
export async function makeDirectoryDurably(directory, mode, sync = syncDirectory) {
    const first = await mkdir(directory, { recursive: true, mode });
    if (first === undefined)
        return;
    for (let made = path.resolve(directory);; made = path.dirname(made)) {
        await sync(path.dirname(made));
        if (made === path.resolve(first))
            return;
    }
}
//# sourceMappingURL=durable_file.js.map