/**
 * The machine's loop devices: which of them lie over a file, and what a killed daemon left behind of a volume that it
 * served as one (a loop device over the one file of a FUSE file system).
 */
import { constants } from 'node:fs';
import { open, readFile, readdir, realpath } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from './log.js';
import { isMountPoint, mountPointsOf, unmount } from './mounts.js';
import { systemError } from './system_errors.js';

/** In the file systems that serve a volume. */
export const SERVED_FILE_NAME = 'volume';

/** Errors: LOOP_BUSY. */
export type DetachLoop = (device: string) => Promise<void>;

/**
 * "/dev/loopN" of every loop device over `file`, an absolute path without links. What cannot be read is not taken for a
 * device over another file: somebody would be told that nobody uses this one. Errors: IO_ERROR, PERMISSION_DENIED.
 * `blockDevices`: where the kernel tells of them; a test replaces it.
 */
export async function loopDevicesOver(file: string, blockDevices = '/sys/block'): Promise<string[]> {
  const devices: string[] = [];
  for (const name of await readUnlessGone(readdir(blockDevices), blockDevices, [])) {
    if (!/^loop\d+$/.test(name)) continue;
    const attribute = `${blockDevices}/${name}/loop/backing_file`;
    const backing = await readUnlessGone(readFile(attribute, 'utf8'), attribute, '');
    if (backing.trimEnd() === file) devices.push(`/dev/${name}`);
  }
  return devices;
}

/** `gone` when the kernel has no such entry: a loop device that is attached to nothing, or goes away meanwhile. */
async function readUnlessGone<T>(reading: Promise<T>, what: string, gone: T): Promise<T> {
  try {
    return await reading;
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV') return gone;
    throw systemError(thrown, what);
  }
}

/** False when the device is in use. */
export async function tryDetach(device: string, detachLoop: DetachLoop): Promise<boolean> {
  try {
    await detachLoop(device);
    return true;
  } catch (thrown) {
    if (toAfterimageError(thrown).code === 'LOOP_BUSY') return false;
    throw thrown;
  }
}

/** Whether something claims the device: a mount, device-mapper, swap. One that merely has it open cannot be seen. */
export async function isClaimed(device: string): Promise<boolean> {
  try {
    await (await open(device, constants.O_RDONLY | constants.O_EXCL)).close();
    return false;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EBUSY';
  }
}

/**
 * Detaches `device` if it `isOurs`. Somebody may have detached it already, and the kernel have given its number to somebody
 * else: that one is left alone. Errors: LOOP_BUSY, LOOP_DETACH, and those of isOurs(): a device is another's only where
 * that is known.
 */
export async function detachOurs(
  device: string,
  isOurs: () => Promise<boolean>,
  detachLoop: DetachLoop,
): Promise<void> {
  if (!(await isOurs())) return;
  try {
    await detachLoop(device);
  } catch (thrown) {
    if (await isOurs()) throw thrown;
  }
}

/** detachOurs() of a device that was attached to `file`, an absolute path without links. Errors: also IO_ERROR. */
export async function detachFrom(file: string, device: string, detachLoop: DetachLoop): Promise<void> {
  const isOurs = async (): Promise<boolean> => (await loopDevicesOver(file)).includes(device);
  await detachOurs(device, isOurs, detachLoop);
}

/** Who is in the way of detaching: what follows "in use by". */
export async function describeUse(device: string): Promise<string> {
  const mountPoints = await mountPointsOf(device);
  if (mountPoints.length > 0) return `the mount on ${mountPoints.join(', ')}`;
  const holders = await readdir(`/sys/block/${path.basename(device)}/holders`);
  return holders.length > 0 ? holders.join(', ') : 'a process that has it open';
}

/** Who has a block device for itself, as a mount does; null: nobody. Errors: PERMISSION_DENIED, IO_ERROR. */
export async function exclusiveUserOf(device: string): Promise<string | null> {
  try {
    const handle = await open(device, constants.O_RDONLY | constants.O_EXCL);
    await handle.close();
    return null;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EBUSY') return describeUse(device);
    throw systemError(thrown, device);
  }
}

/**
 * Clears away what a dead process served at `mountPoint`; the caller knows that it is dead. Nothing is taken from
 * somebody who still uses it. Errors: LOOP_BUSY, FUSE_MOUNT.
 */
export async function clearServed(mountPoint: string, detachLoop: DetachLoop, log: Log): Promise<void> {
  // Of a dead file system not even the root can be looked at; the kernel's tables name the place without links.
  const parent = await realpath(path.dirname(mountPoint)).catch(() => null);
  if (parent === null) return;
  const place = path.join(parent, path.basename(mountPoint));
  const file = path.join(place, SERVED_FILE_NAME);
  for (const device of await loopDevicesOver(file)) {
    if (!(await tryDetach(device, detachLoop))) {
      const use = await describeUse(device);
      throw new AfterimageError('LOOP_BUSY', `${device} of a daemon that was killed is in use by ${use}`);
    }
    log.warn({ device, file }, 'detached the loop device of a daemon that was killed');
  }
  if (await isMountPoint(place)) {
    await unmount(place);
    log.warn({ mountPoint: place }, 'unmounted the file system of a daemon that was killed');
  }
}
