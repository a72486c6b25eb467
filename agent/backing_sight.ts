/**
 * What a backing's path led to when it was opened, as long as the host runs: a successor that opens it again must find the
 * same, since its production goes on with what that holds. A living agent holds what it opened, whatever becomes of the path.
 */
import { statfs } from 'node:fs/promises';
import { attribute } from '../service/attribute.js';
import { deviceNumber } from '../service/device_number.js';
import { KERNEL, statOf, type KernelTables } from './backing_fingerprint.js';
import { backingIdentity, isOtherDevice } from './backing_identity.js';

/** 0 and "": it is none of that kind, or nothing tells. */
export interface BackingSight {
  /** Of a file. */
  inode: bigint;
  /** When the file was made, nanoseconds since 1970. */
  bornNs: bigint;
  /** Of a device, as backingIdentity. */
  name: string;
  /** The kernel's number of the device's medium, another one whenever it is set up anew (diskseq, Linux 5.15). */
  medium: string;
}

const UNKNOWN: BackingSight = { inode: 0n, bornNs: 0n, name: '', medium: '' };
/** FUSE_SUPER_MAGIC: whose inodes may have other numbers when they are looked up again. */
const FUSE = 0x65735546;

/** Errors: BACKING_MISSING, PERMISSION_DENIED, IO_ERROR. */
export async function backingSight(backing: string, kernel: KernelTables = KERNEL): Promise<BackingSight> {
  const { rdev, ino, birthtimeNs, ctimeNs } = await statOf(backing);
  if (rdev !== 0n) {
    const directory = `${kernel.blockDevices}/${deviceNumber(rdev)}`;
    // A partition's medium is its disk's.
    const medium = (await attribute(`${directory}/diskseq`)) ?? (await attribute(`${directory}/../diskseq`));
    return { ...UNKNOWN, name: await backingIdentity(backing, kernel), medium: medium ?? '' };
  }
  const { type } = await statfs(backing);
  if (type === FUSE) return UNKNOWN;
  // Where the system does not tell, it says the time of the last change.
  return { ...UNKNOWN, inode: ino, bornNs: birthtimeNs === ctimeNs ? 0n : birthtimeNs };
}

/** Whether `now` is certainly something else than `before`. */
export function isOtherBacking(before: BackingSight, now: BackingSight): boolean {
  if (isFile(before) || isFile(now)) {
    const isUnknown = isNothing(before) || isNothing(now);
    return !isUnknown && (before.inode !== now.inode || differ(before.bornNs, now.bornNs, 0n));
  }
  if (before.name !== '' && now.name !== '') return isOtherDevice(before.name, now.name);
  return differ(before.medium, now.medium, '');
}

export const isDevice = ({ name, medium }: BackingSight): boolean => name !== '' || medium !== '';
const isFile = ({ inode }: BackingSight): boolean => inode !== 0n;
const isNothing = (sight: BackingSight): boolean => !isFile(sight) && !isDevice(sight);
const differ = <T>(before: T, now: T, unknown: T): boolean =>
  before !== unknown && now !== unknown && before !== now;
