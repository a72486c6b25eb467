/**
 * Which device a backing is, across boots and whatever its path: what the medium, its driver or device-mapper calls it. A
 * backing that is another one than before is compared in full, and never taken for one that has grown.
 */
import { attribute } from '../service/attribute.js';
import { deviceNumber } from '../service/device_number.js';
import { KERNEL, statOf, type KernelTables } from './backing_fingerprint.js';

/** Attributes below a device's directory, those that name it best first. */
const NAMES = ['dm/uuid', 'md/uuid', 'wwid', 'device/wwid', 'serial'] as const;

/**
 * "": it has none that outlives a boot, as files and loop devices. A partition is known by its disk's and its number. Errors:
 * BACKING_MISSING, PERMISSION_DENIED, IO_ERROR.
 */
export async function backingIdentity(backing: string, kernel: KernelTables = KERNEL): Promise<string> {
  const { rdev } = await statOf(backing);
  if (rdev === 0n) return '';
  const directory = `${kernel.blockDevices}/${deviceNumber(rdev)}`;
  const own = await nameIn(directory);
  const partition = await attribute(`${directory}/partition`);
  if (own !== '' || partition === null) return own;
  const disk = await nameIn(`${directory}/..`);
  return disk === '' ? '' : `${disk} partition ${partition}`;
}

/** Whether `now` is certainly another device than `before`. */
export function isOtherDevice(before: string, now: string): boolean {
  return before !== '' && now !== '' && before !== now;
}

async function nameIn(directory: string): Promise<string> {
  for (const name of NAMES) {
    const value = await attribute(`${directory}/${name}`);
    if (value !== null && value !== '') return `${name} ${value}`;
  }
  return '';
}
