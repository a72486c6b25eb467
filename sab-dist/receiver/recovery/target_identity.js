/**
 * Which file or device a path leads to now. A recovery goes on only into the very one that it began with: a name like
 * /dev/sdb is another disk after the next reboot or cable.
 */
import { readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
const SECTOR_BYTES = 512n;
const MINOR_BITS_LOW = 8n;
const MAJOR_BITS = 12n;
/**
 * Null when nothing is there. A file is known by file system and inode; a device by number, size, and the kernel's count
 * of disks (Linux 5.15: a device that is attached anew has another). Errors: as stat(2).
 */
export async function targetIdentity(file) {
    let found;
    try {
        found = await stat(file, { bigint: true });
    }
    catch (thrown) {
        if (thrown.code === 'ENOENT')
            return null;
        throw thrown;
    }
    if (!found.isBlockDevice())
        return `file ${found.dev}:${found.ino}`;
    const number = deviceNumber(found.rdev);
    const place = await realpath(`/sys/dev/block/${number}`).catch(() => `/sys/dev/block/${number}`);
    const sectors = await attribute(path.join(place, 'size'));
    // A partition has the number of its disk.
    const sequence = (await attribute(path.join(place, 'diskseq'))) ?? (await attribute(path.join(place, '../diskseq')));
    return `device ${number} ${BigInt(sectors ?? 0) * SECTOR_BYTES} ${sequence ?? '-'}`;
}
async function attribute(file) {
    try {
        return (await readFile(file, 'utf8')).trim();
    }
    catch {
        return null;
    }
}
/** "MAJOR:MINOR" as gnu_dev_major(3) and gnu_dev_minor(3) take it apart. */
function deviceNumber(rdev) {
    const majorLow = (rdev >> MINOR_BITS_LOW) & ((1n << MAJOR_BITS) - 1n);
    const majorHigh = (rdev >> 32n) & ~((1n << MAJOR_BITS) - 1n);
    const minorLow = rdev & ((1n << MINOR_BITS_LOW) - 1n);
    const minorHigh = (rdev >> MAJOR_BITS) & 0xffffff00n;
    return `${majorHigh | majorLow}:${minorHigh | minorLow}`;
}
//# sourceMappingURL=target_identity.js.map