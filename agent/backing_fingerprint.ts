/**
 * By what the agent tells whether a backing was changed while no agent held it. Taken after the last flush, while it is
 * still held exclusively, and at the next start before it is opened, which makes a change of its own (the device tries
 * whether the file can have holes). Where the two are equal, the stream goes on; where they show a change, the whole volume
 * is compared with the receiver; where they show nothing, as after a boot, the dirty log and a few samples must do. What was
 * changed past this host no counter of it shows: backing_samples.ts.
 */
import { stat } from 'node:fs/promises';
import { AfterimageError } from '../proto/errors.js';
import { attribute } from '../service/attribute.js';
import { deviceNumber } from '../service/device_number.js';
import { systemError } from '../service/system_errors.js';

/** Where the kernel tells of its boot and its block devices. A test replaces it. */
export interface KernelTables {
  bootId: string;
  /** Of /sys/dev/block. */
  blockDevices: string;
}
export const KERNEL: KernelTables = {
  bootId: '/proc/sys/kernel/random/boot_id',
  blockDevices: '/sys/dev/block',
};

/** Fields of a device's `stat` that only writing changes (Documentation/block/stat.rst), from 0. */
const WRITE_IOS = 4;
const WRITE_SECTORS = 6;
const DISCARD_IOS = 11;
const DISCARD_SECTORS = 13;

/**
 * Of a file: its inode, and the times of its last write and of its last change, since the former can be set at will. Of a
 * block device, which has no such times: what its driver has counted since the boot. "" where nothing tells of changes:
 * that equals no other fingerprint. What is written past the device (to the disk under a partition or a logical volume,
 * to the file under a loop device) is in no counter of its own, and not found out. Errors: BACKING_MISSING, PERMISSION_DENIED, IO_ERROR.
 */
export async function backingFingerprint(backing: string, kernel: KernelTables = KERNEL): Promise<string> {
  const { dev, ino, rdev, mtimeNs, ctimeNs } = await statOf(backing);
  if (rdev === 0n) return `file ${dev}:${ino} ${mtimeNs} ${ctimeNs} ${backing}`;
  const counted = await countedWrites(rdev, kernel);
  return counted === null ? '' : `device ${counted} ${backing}`;
}

/**
 * The counters begin at zero with every boot, and anybody may have written before they did: so the boot belongs to them,
 * and the number of the medium, which a device gets anew whenever it is set up. Null where they are not kept.
 */
async function countedWrites(rdev: bigint, { bootId, blockDevices }: KernelTables): Promise<string | null> {
  const directory = `${blockDevices}/${deviceNumber(rdev)}`;
  const [boot, counters] = await Promise.all([attribute(bootId), attribute(`${directory}/stat`)]);
  if (boot === null || counters === null) return null;
  // A partition's queue is that of its disk.
  const isCounting =
    (await attribute(`${directory}/queue/iostats`)) ?? (await attribute(`${directory}/../queue/iostats`));
  if (isCounting === '0') return null;
  const fields = counters.split(/\s+/);
  const writes = [WRITE_IOS, WRITE_SECTORS, DISCARD_IOS, DISCARD_SECTORS].map(
    (field) => fields[field] ?? '-',
  );
  const medium = (await attribute(`${directory}/diskseq`)) ?? '-';
  return `${boot} ${medium} ${writes.join(' ')}`;
}

export type BackingEvidence = 'untouched' | 'changed' | 'none';

/** What the fingerprint of a clean stop and that of the next start say about the time between them. */
export function evidenceOf(before: string, now: string): BackingEvidence {
  if (before === '' || now === '') return 'none';
  if (before === now) return 'untouched';
  const [kind, boot] = before.split(' ');
  const [kindNow, bootNow] = now.split(' ');
  // The counters of another boot began at zero.
  if (kind === 'device' && kindNow === kind && bootNow !== boot) return 'none';
  return 'changed';
}

/** Errors: BACKING_MISSING, PERMISSION_DENIED, IO_ERROR. */
export async function statOf(path: string) {
  try {
    return await stat(path, { bigint: true });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new AfterimageError('BACKING_MISSING', message, { cause });
    }
    throw systemError(cause, `${path} cannot be looked at`);
  }
}
