/**
 * What a volume is recovered to: a file, or a block device. Everything that can be wrong with it is found before a byte
 * of it is changed.
 */
import { open, readdir, realpath, stat, truncate } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError } from '../../proto/errors.js';
import { loopDevicesOver } from '../../service/loop_devices.js';
import { named, systemError } from '../../service/system_errors.js';
import { PROGRESS_SUFFIX, readProgress, writeProgress, } from './progress_file.js';
import { targetIdentity } from './target_identity.js';
const SECTOR_BYTES = 512;
/** What a path that cannot be a target fails with. */
const TARGET_FAULTS = [
    'ENOENT',
    'ENOTDIR',
    'EEXIST',
    'ELOOP',
    'ENAMETOOLONG',
    'BACKING_INVALID',
    'BACKING_MISSING',
];
/**
 * Opens `file` exclusively for a volume. A new or empty file becomes sparse of the volume's size; what is there already
 * is taken only to go on with the same recovery, or to be overwritten.
 * Errors: TARGET_INVALID, TARGET_NOT_EMPTY, TARGET_TOO_SMALL, TARGET_BUSY, PERMISSION_DENIED, DISK_FULL, IO_ERROR.
 */
export async function openTarget(parts, file, identity, overwrite) {
    await assertOutsideStore(parts, file);
    const found = await statOrNull(file);
    const isDevice = found?.isBlockDevice() === true;
    if (found !== null && !isDevice && !found.isFile()) {
        throw new AfterimageError('TARGET_INVALID', `${file} is neither a file nor a block device`);
    }
    const loops = found === null ? [] : await loopDevicesOver(await realPlace(file));
    if (loops.length > 0)
        throw new AfterimageError('TARGET_BUSY', `${file} is in use as ${loops.join(', ')}`);
    const progressFile = isDevice ? deviceProgressFile(parts, file) : `${file}${PROGRESS_SUFFIX}`;
    const unfinished = found === null ? null : await readProgress(progressFile, identity, await identityOf(file));
    const earlier = unfinished?.lsn === identity.lsn ? unfinished : null;
    const isSameFile = isDevice || BigInt(found?.size ?? 0) === identity.size;
    // Whoever overwrites does not want what is complete already, and may have seen it fail its verification.
    const isResumed = earlier !== null && isSameFile && !(overwrite && earlier.offset === identity.size);
    if (!isResumed) {
        const isEmpty = !isDevice && (found === null || found.size === 0);
        if (!isEmpty && !overwrite)
            throw notEmpty(file, unfinished);
        if (!isDevice)
            await emptyFile(parts, file, found, identity.size);
    }
    const progress = isResumed
        ? earlier
        : { ...identity, target: await identityOf(file), offset: 0n, isSparse: !isDevice };
    const device = await openExclusively(parts, file, isDevice);
    if (device.size < identity.size) {
        await device.close();
        throw new AfterimageError('TARGET_TOO_SMALL', `${file} has ${device.size} bytes, the volume ${identity.size}`);
    }
    try {
        await writeProgress(progressFile, progress);
    }
    catch (thrown) {
        await device.close();
        throw targetError(thrown, progressFile);
    }
    return { path: file, device, progress, progressFile };
}
/**
 * Whether a group may be recovered into `directory`: it is missing, empty, or holds only what an interrupted recovery to
 * the same point left there. Errors: TARGET_INVALID, TARGET_NOT_EMPTY.
 */
export async function checkDirectory(directory, images) {
    const found = await statOrNull(directory);
    if (found === null)
        return;
    if (!found.isDirectory())
        throw new AfterimageError('TARGET_INVALID', `${directory} is not a directory`);
    for (const name of await named(readdir(directory), directory)) {
        // Progress alone is nothing to lose: without its image it begins anew.
        if (name.endsWith(PROGRESS_SUFFIX) && images.has(name.slice(0, -PROGRESS_SUFFIX.length)))
            continue;
        const file = path.join(directory, name);
        const identity = images.get(name);
        const progress = identity === undefined
            ? null
            : await readProgress(`${file}${PROGRESS_SUFFIX}`, identity, await identityOf(file));
        if (identity !== undefined && progress !== null && progress.lsn !== identity.lsn) {
            throw notEmpty(file, progress);
        }
        if (progress === null) {
            throw new AfterimageError('TARGET_NOT_EMPTY', `${directory} is not empty: it holds ${name}`);
        }
    }
}
/** `latest` is another point by now: whoever repeats the command gets told which one it was. */
function notEmpty(file, unfinished) {
    const what = unfinished === null
        ? 'is not empty'
        : `holds a recovery of ${unfinished.point} that was interrupted, and goes on with that point`;
    return new AfterimageError('TARGET_NOT_EMPTY', `${file} ${what}`);
}
/**
 * Recovering into the store would destroy what it is recovered from, by whatever links `file` leads there. Errors:
 * TARGET_INVALID.
 */
export async function assertOutsideStore({ storeDirectory }, file) {
    const fromStore = path.relative(await named(realpath(storeDirectory), storeDirectory), await realPlace(file));
    const isOutside = fromStore === '..' || fromStore.startsWith(`..${path.sep}`);
    if (!isOutside)
        throw new AfterimageError('TARGET_INVALID', `${file} lies in the receiver's store`);
}
/** `file` with its links followed, as far as it exists. */
async function realPlace(file) {
    try {
        return await realpath(file);
    }
    catch (thrown) {
        const isRoot = path.dirname(file) === file;
        if (isRoot || thrown.code !== 'ENOENT')
            throw targetError(thrown, file);
        return path.join(await realPlace(path.dirname(file)), path.basename(file));
    }
}
/** Of a file that is there. */
async function identityOf(file) {
    try {
        return (await targetIdentity(file)) ?? '';
    }
    catch (thrown) {
        throw targetError(thrown, file);
    }
}
/** A device's directory is no place for files. */
function deviceProgressFile({ runDirectory }, file) {
    return path.join(runDirectory, `${encodeURIComponent(file)}${PROGRESS_SUFFIX}`);
}
async function emptyFile(parts, file, found, size) {
    if (found !== null && found.size > 0 && found.size % SECTOR_BYTES === 0) {
        // Somebody may hold it: before it is cut, not after.
        await (await openExclusively(parts, file, false)).close();
    }
    try {
        if (found === null)
            await (await open(file, 'wx', 0o600)).close();
        else
            await truncate(file, 0);
        await truncate(file, Number(size));
    }
    catch (thrown) {
        throw targetError(thrown, file);
    }
}
async function openExclusively({ openFileDevice }, file, isDevice) {
    try {
        // A device's pages would push out everything else, and stay behind for whoever reads it next.
        const cache = isDevice ? 'direct' : 'buffered';
        return await openFileDevice({ path: file, cache, readOnly: false, exclusive: true });
    }
    catch (thrown) {
        throw targetError(thrown, file);
    }
}
/** The target as its disk holds it: verification must not read what the page cache still has. Errors: as openTarget. */
export async function openReadBack({ openFileDevice }, file) {
    try {
        return await openFileDevice({ path: file, cache: 'direct', readOnly: true, exclusive: false });
    }
    catch (thrown) {
        throw targetError(thrown, file);
    }
}
async function statOrNull(file) {
    try {
        return await stat(file);
    }
    catch (thrown) {
        if (thrown.code === 'ENOENT')
            return null;
        throw targetError(thrown, file);
    }
}
/** A fault of the path is the user's, the others are the system's. */
export function targetError(thrown, file) {
    const code = thrown.code;
    const options = { cause: thrown };
    if (TARGET_FAULTS.includes(String(code))) {
        return new AfterimageError('TARGET_INVALID', `${file}: ${thrown.message}`, options);
    }
    if (code === 'BACKING_BUSY') {
        return new AfterimageError('TARGET_BUSY', `${file} is mounted or in use`, options);
    }
    return systemError(thrown, file);
}
//# sourceMappingURL=target.js.map