/** Where the dirty logs lie: a file for each volume, under the state directory, by UUID. docs/FORMAT.md has their bytes. */
import path from 'node:path';
import { formatUuid } from '../proto/uuid.js';
import { makeDirectory } from './directory.js';
/** As native/capture/dirty_log_file.h has them. */
export const DIRTY_EXTENT_BYTES = 4 << 20;
/** Whatever the disk says, there is a log, perhaps a void one. Errors: MEMORY_UNAVAILABLE. */
export async function openDirtyLog(stateDir, { uuid, size }, open) {
    const directory = path.join(stateDir, 'dirty');
    // What is wrong with it is what the log then says of itself.
    await makeDirectory(directory).catch(() => undefined);
    return open({ path: path.join(directory, `${formatUuid(uuid)}.log`), volume: uuid, volumeBytes: size });
}
export function positionOf(volume, log) {
    const { id, sequence, basisLsn } = log.state();
    return { volume, id, sequence, basisLsn };
}
//# sourceMappingURL=dirty_logs.js.map