/**
 * What a backing's path led to when it was opened, as long as the host runs: a successor that opens it again must find the
 * same, since its production goes on with what that holds. (A living agent holds what it opened, whatever becomes of the
 * path.) Where it cannot be told it is taken for the same: production that waits for nothing is no better.
 */
import { statfs } from 'node:fs/promises';
import { attribute } from '../service/attribute.js';
import { deviceNumber } from '../service/device_number.js';
import { KERNEL, statOf, type KernelTables } from './backing_fingerprint.js';
import { backingIdentity } from './backing_identity.js';

/** 0 and "": it is none of that kind, or nothing tells. */
export interface BackingSight {
  /** Of a file. */
  inode: bigint;
  /** When the file was made, nanoseconds since 1970. */
  bornNs: bigint;
  /** Of a device, as backingIdentity. */
  name: string;
  /** The kernel's number of the disk's medium, another one whenever it is set up anew (diskseq, Linux 5.15). */
  medium: string;
  /** The number of the partition. */
  partition: string;
}

const UNKNOWN: BackingSight = { inode: 0n, bornNs: 0n, name: '', medium: '', partition: '' };
/** Where a file keeps its inode's number, as statfs(2) calls them. FUSE, FAT and CIFS are among those where it may not. */
const KEEPING_INODES = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0xf2f52010, // f2fs
  0x2fc12fc1, // zfs
  0x01021994, // tmpfs
  0x794c7630, // overlayfs, once a file was opened for writing
]);

/**
 * Asks a device for no more than it takes to tell that it is what is `known`: a disk that hangs may not say its name.
 * Errors: BACKING_MISSING, PERMISSION_DENIED, IO_ERROR.
 */
export async function backingSight(
  backing: string,
  known: BackingSight | null,
  kernel: KernelTables = KERNEL,
): Promise<BackingSight> {
  const { rdev, ino, birthtimeNs, ctimeNs } = await statOf(backing);
  if (rdev !== 0n) {
    const directory = `${kernel.blockDevices}/${deviceNumber(rdev)}`;
    const partition = (await attribute(`${directory}/partition`)) ?? '';
    const disk = partition === '' ? directory : `${directory}/..`;
    const medium = (await attribute(`${disk}/diskseq`)) ?? '';
    if (known !== null && medium !== '' && medium === known.medium && partition === known.partition)
      return known;
    return { ...UNKNOWN, name: await backingIdentity(backing, kernel), medium, partition };
  }
  const type = await statfs(backing).then(
    ({ type }) => type,
    () => 0,
  );
  if (!KEEPING_INODES.has(type)) return UNKNOWN;
  // Where the system does not tell, it says the time of the last change.
  const isTold = birthtimeNs !== ctimeNs && birthtimeNs > 0n && birthtimeNs < 1n << 64n;
  return { ...UNKNOWN, inode: ino, bornNs: isTold ? birthtimeNs : 0n };
}

/** Whether `now` is certainly something else than `before`. A disk without a name may have been away, and is back. */
export function isOtherBacking(before: BackingSight, now: BackingSight): boolean {
  const [from, to] = [kindOf(before), kindOf(now)];
  if (from === null || to === null) return false;
  if (from !== to) return true;
  if (to === 'file')
    return (
      before.inode !== now.inode ||
      (before.bornNs !== 0n && now.bornNs !== 0n && before.bornNs !== now.bornNs)
    );
  if (before.medium !== '' && before.medium === now.medium) return before.partition !== now.partition;
  return before.name !== '' && now.name !== '' && before.name !== now.name;
}

function kindOf(sight: BackingSight): 'file' | 'device' | null {
  if (sight.inode !== 0n) return 'file';
  return isDevice(sight) ? 'device' : null;
}

export const isDevice = ({ name, medium }: BackingSight): boolean => name !== '' || medium !== '';
