/** What is mounted where, from /proc/self/mountinfo (proc_pid_mountinfo(5)). */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { AfterimageError } from '../proto/errors.js';
const run = promisify(execFile);
const UMOUNT_MS_MAX = 10_000;
/** Whether something is mounted exactly there. */
export async function isMountPoint(directory) {
    return (await mounts()).some((mount) => mount.mountPoint === directory);
}
/** Where `device` is mounted in this mount namespace. */
export async function mountPointsOf(device) {
    const { rdev } = await stat(device);
    const number = `${major(rdev)}:${minor(rdev)}`;
    return (await mounts()).filter((mount) => mount.device === number).map((mount) => mount.mountPoint);
}
/** Errors: FUSE_MOUNT. */
export async function unmount(directory) {
    try {
        await run('umount', [directory], { timeout: UMOUNT_MS_MAX });
    }
    catch (cause) {
        throw new AfterimageError('FUSE_MOUNT', `${directory} is still mounted, by a daemon that was killed: ${cause.message}`, { cause });
    }
}
async function mounts() {
    const table = await readFile('/proc/self/mountinfo', 'utf8');
    return table
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => {
        const fields = line.split(' ');
        return { device: fields[2] ?? '', mountPoint: unescape(fields[4] ?? '') };
    });
}
/** Spaces, tabs, newlines and backslashes are written as octal. */
function unescape(text) {
    return text.replace(/\\([0-7]{3})/g, (_match, octal) => String.fromCharCode(parseInt(octal, 8)));
}
/** gnu_dev_major and gnu_dev_minor, for numbers of 32 bits. */
function major(device) {
    return (device >>> 8) & 0xfff;
}
function minor(device) {
    return (device & 0xff) | ((device >>> 12) & 0xfff00);
}
//# sourceMappingURL=mounts.js.map