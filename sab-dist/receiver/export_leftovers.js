/**
 * What a receiver that was killed left of its exports in the run directory: sockets, and loop devices over file systems
 * that nobody serves any more. Exports of another receiver that lives are left alone.
 */
import { open, readdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { removeStale } from '../service/listen.js';
import { clearServed, SERVED_FILE_NAME } from '../service/loop_devices.js';
const EXPORT = /^export-[0-9a-f]+(\.sock)?$/;
/** Never fails: what cannot be cleared away is named in the log. */
export async function clearExportLeftovers(runDirectory, detachLoop, log) {
    for (const name of await readdir(runDirectory).catch(() => [])) {
        if (!EXPORT.test(name))
            continue;
        const place = path.join(runDirectory, name);
        try {
            if (name.endsWith('.sock'))
                await removeStale(place);
            else
                await clearDevices(place, detachLoop, log);
        }
        catch (err) {
            log.warn({ err, place }, 'an export of a receiver that was killed stays');
        }
    }
}
async function clearDevices(directory, detachLoop, log) {
    for (const name of await readdir(directory)) {
        const mountPoint = path.join(directory, name);
        const isServed = await isAlive(path.join(mountPoint, SERVED_FILE_NAME));
        if (isServed)
            return;
        await clearServed(mountPoint, detachLoop, log);
        await rmdir(mountPoint);
    }
    await rmdir(directory);
}
/** Opening asks the server; what stat() says may be remembered from when there was one. */
async function isAlive(file) {
    try {
        await (await open(file, 'r')).close();
        return true;
    }
    catch {
        return false;
    }
}
//# sourceMappingURL=export_leftovers.js.map