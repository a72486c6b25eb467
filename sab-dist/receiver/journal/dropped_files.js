/** The files of segments that were dropped: the catalog has said that their records are in the bases. */
import { readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { named } from '../../service/system_errors.js';
import { fileFirstLsn } from '../store.js';
/**
 * Removes every segment and run up to `droppedLsn`, whatever state they are in, oldest first: what a crash has left is
 * removed the next time. Errors: IO_ERROR, PERMISSION_DENIED.
 */
export async function removeDropped(directory, droppedLsn) {
    if (droppedLsn === 0n)
        return;
    for (const name of (await named(readdir(directory), directory)).sort()) {
        const firstLsn = fileFirstLsn(name);
        if (firstLsn === null || firstLsn > droppedLsn)
            continue;
        const file = path.join(directory, name);
        await named(unlink(file), file);
    }
}
//# sourceMappingURL=dropped_files.js.map