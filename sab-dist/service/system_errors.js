/** What the system says of a disk, as an error with a code that names its path: none of it is a defect of this program. */
import { constants } from 'node:os';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
/** Numbers to names. (util.getSystemErrorName() knows fewer: EDQUOT is not among them.) */
const NAMES = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]));
const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG'];
/** EROFS too: nothing is wrong with the disk, somebody mounted it so. */
const FORBIDDEN = ['EACCES', 'EPERM', 'EROFS'];
/**
 * `subject`: what it was about, a path as a rule, and what could not be done with it. `full`: the code where there is no
 * room. Errors that have a code already keep it, but for the addon's IO_ERROR, which is looked into. Codes: `full`,
 * PERMISSION_DENIED, IO_ERROR.
 */
export function systemError(thrown, subject, full = 'DISK_FULL') {
    const name = systemErrorName(thrown);
    if (name === null)
        return toAfterimageError(thrown);
    const code = FULL.includes(name) ? full : isForbidden(name) ? 'PERMISSION_DENIED' : 'IO_ERROR';
    return new AfterimageError(code, `${subject}: ${thrown.message}`, { cause: thrown });
}
/** Whether this user may not do it, in contrast to a disk or file system that failed. `name`: "EACCES" and the like. */
export function isForbidden(name) {
    return FORBIDDEN.includes(name);
}
/** "ENOSPC" and the like of an error of Node.js, or of an IO_ERROR of the addon; else null. */
export function systemErrorName(thrown) {
    if (!(thrown instanceof Error))
        return null;
    if (thrown instanceof AfterimageError && thrown.code !== 'IO_ERROR')
        return null;
    // The addon's own error is the cause of what native/index.ts made of it.
    const { errno } = (thrown instanceof AfterimageError ? (thrown.cause ?? {}) : thrown);
    // Node.js has them negative, the addon as they are.
    return typeof errno === 'number' && errno !== 0 ? (NAMES.get(Math.abs(errno)) ?? 'unknown') : null;
}
/** `work`, its errors as systemError() has them. */
export async function named(work, subject, full) {
    try {
        return await work;
    }
    catch (thrown) {
        throw systemError(thrown, subject, full);
    }
}
//# sourceMappingURL=system_errors.js.map