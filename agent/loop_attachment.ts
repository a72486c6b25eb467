/**
 * A volume as /dev/loopN: a loop device over the one file of a FUSE file system that the addon serves, with a stable
 * link to it. Also clears away what a killed agent left there. Needs root.
 */
import { lstat, mkdir, readdir, readFile, rename, rm, rmdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';
import { untilUnused, type Attachment } from './attachment.js';
import type { Clock } from './clock.js';
import { isMountPoint, mountPointsOf, unmount } from './mounts.js';

const FILE_NAME = 'volume';

export type LoopDoor = Pick<typeof native, 'startFuseServer' | 'attachLoop' | 'detachLoop'>;

/** Where the parts of one loop attachment lie. */
export interface LoopPlaces {
  /** Of the FUSE file system. */
  mountPoint: string;
  /** The stable link, /dev/afterimage/GROUP/VOLUME. */
  link: string;
}

/**
 * Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, LOOP_UNAVAILABLE, LOOP_ATTACH, LOOP_BUSY (a device of a killed agent is still in
 * use), IO_ERROR.
 */
export async function attachLoopDevice(
  volume: string,
  places: LoopPlaces,
  threads: number,
  device: native.BlockDevice,
  door: LoopDoor,
  clock: Clock,
  log: Log,
): Promise<Attachment> {
  const { mountPoint, link } = places;
  const file = path.join(mountPoint, FILE_NAME);
  await clearLeftovers(places, file, door, log);
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const server = await door.startFuseServer({
    mountPoint,
    fileName: FILE_NAME,
    device,
    readOnly: false,
    threads,
  });
  let loop: string | null = null;
  try {
    loop = await door.attachLoop(file, device.blockSize, false);
    await placeLink(link, loop);
  } catch (thrown) {
    if (loop !== null) await door.detachLoop(loop);
    await server.stop();
    throw toAfterimageError(thrown);
  }
  const attached = loop;
  return {
    device: attached,
    async detach(end) {
      const usedBy = async (): Promise<string | null> =>
        (await tryDetach(attached, door)) ? null : describeUse(attached);
      await untilUnused(volume, usedBy, clock, log, end);
      await rm(link, { force: true });
      await server.stop();
      // Directories that others still use stay.
      for (const directory of [path.dirname(link), mountPoint]) await rmdir(directory).catch(() => undefined);
    },
  };
}

/**
 * What lies at these places belongs to a predecessor that is dead: the caller holds the lock of the run directory.
 * Nothing is taken from somebody who still uses it. Errors: LOOP_BUSY, FUSE_MOUNT.
 */
async function clearLeftovers(places: LoopPlaces, file: string, door: LoopDoor, log: Log): Promise<void> {
  for (const device of await loopDevicesOver(file)) {
    if (!(await tryDetach(device, door))) {
      const use = await describeUse(device);
      throw new AfterimageError('LOOP_BUSY', `${device} of an agent that was killed is in use (${use})`);
    }
    log.warn({ device, file }, 'detached the loop device of an agent that was killed');
  }
  if (await isMountPoint(places.mountPoint)) {
    await unmount(places.mountPoint);
    log.warn({ mountPoint: places.mountPoint }, 'unmounted the file system of an agent that was killed');
  }
  if (await isSymlink(places.link)) await rm(places.link);
}

async function loopDevicesOver(file: string): Promise<string[]> {
  const devices: string[] = [];
  for (const name of await readdir('/sys/block')) {
    if (!/^loop\d+$/.test(name)) continue;
    const backing = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
    if (backing.trimEnd() === file) devices.push(`/dev/${name}`);
  }
  return devices;
}

/** False when the device is in use. */
async function tryDetach(device: string, door: LoopDoor): Promise<boolean> {
  try {
    await door.detachLoop(device);
    return true;
  } catch (thrown) {
    if (toAfterimageError(thrown).code === 'LOOP_BUSY') return false;
    throw thrown;
  }
}

async function describeUse(device: string): Promise<string> {
  const mountPoints = await mountPointsOf(device);
  if (mountPoints.length > 0) return `mounted on ${mountPoints.join(', ')}`;
  const holders = await readdir(`/sys/block/${path.basename(device)}/holders`);
  return holders.length > 0 ? `held by ${holders.join(', ')}` : 'opened by a process';
}

/** Replaces the link in one step, so that whoever follows it never finds it missing. */
async function placeLink(link: string, device: string): Promise<void> {
  const temporary = `${link}.new`;
  await mkdir(path.dirname(link), { recursive: true, mode: 0o755 });
  await rm(temporary, { force: true });
  await symlink(device, temporary);
  await rename(temporary, link);
}

async function isSymlink(file: string): Promise<boolean> {
  return (await lstat(file).catch(() => null))?.isSymbolicLink() ?? false;
}
