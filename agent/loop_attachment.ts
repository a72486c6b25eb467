/**
 * A volume as /dev/loopN: a loop device over the one file of a FUSE file system that the addon serves, with a stable
 * link to it. Also clears away what a killed agent left there. Needs root.
 */
import { closeSync } from 'node:fs';
import { mkdir, realpath, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import {
  clearServed,
  describeUse,
  exclusiveUserOf,
  detachOurs,
  SERVED_FILE_NAME,
  tryDetach,
} from '../service/loop_devices.js';
import type * as native from '../native/index.js';
import type { Attachment } from './attachment.js';
import type { AttachmentCustody } from './custody.js';
import type { LoopSettings } from './served_settings.js';
import { clearLink, placeLink, removeLink } from './stable_link.js';
import type { VolumeUse } from './volume_use.js';

export type LoopDoor = Pick<
  typeof native,
  'startFuseServer' | 'resumeFuseServer' | 'attachLoop' | 'isLoopOver' | 'detachLoop' | 'resizeLoop'
>;

/** Where the parts of one loop attachment lie. */
export interface LoopPlaces {
  /** Of the FUSE file system. */
  mountPoint: string;
  /** The stable link, /dev/afterimage/GROUP/VOLUME. */
  link: string;
}

/** Of the FUSE file system of a volume. */
export const servedAt = (runDir: string, group: string, volume: string): string =>
  path.join(runDir, 'fuse', group, volume);

/**
 * Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, LOOP_UNAVAILABLE, LOOP_ATTACH, LOOP_BUSY (a device of a killed agent is still in
 * use), IO_ERROR.
 */
export async function attachLoopDevice(
  places: LoopPlaces,
  threads: number,
  device: native.BlockDevice,
  door: LoopDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
  log: Log,
): Promise<Attachment> {
  const { mountPoint, link } = places;
  // The caller holds the lock of the run directory: what lies at these places belongs to a predecessor that is dead.
  await clearServed(mountPoint, door.detachLoop, log);
  await clearLink(link);
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const file = path.join(await realpath(mountPoint), SERVED_FILE_NAME);
  const server = await door.startFuseServer({
    mountPoint,
    fileName: SERVED_FILE_NAME,
    device,
    readOnly: false,
    threads,
  });
  let loop: string | null = null;
  let identity: native.FileIdentity;
  try {
    identity = await identityOf(file);
    loop = await door.attachLoop(file, device.blockSize, false);
    const parts = { kind: 'loop' as const, threads, device: loop, link, file: identity };
    await custody.keep(() => {
      const { fuse, slots, ...session } = server.legacy();
      return {
        attachment: { ...parts, ...session },
        descriptors: slots === null ? { fuse } : { slots, fuse },
      };
    });
    await placeLink(link, loop);
  } catch (thrown) {
    custody.forget();
    // Why it failed is the better answer than what is left of it; and a server without a volume must not stay.
    const left = (error: unknown): void => log.error({ err: error, loop }, 'after a failed attachment');
    if (loop !== null) await door.detachLoop(loop).catch(left);
    await server.stop().catch(left);
    throw toAfterimageError(thrown);
  }
  return attachment(loop, places, identity, server, door, use, custody);
}

/**
 * Goes on with what a predecessor served, as `settings` say. Whoever uses the device waits until this resolves. Errors:
 * SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE, FUSE_UNAVAILABLE.
 */
export async function resumeLoopDevice(
  settings: LoopSettings,
  { fuse, slots }: { fuse: number; slots: number | null },
  device: native.BlockDevice,
  door: LoopDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
  log: Log,
): Promise<Attachment> {
  const { threads, mountPoint, connection } = settings;
  const options = { mountPoint, fileName: SERVED_FILE_NAME, device, readOnly: false, threads };
  const resume = (held: number | null): Promise<native.FuseServer> =>
    door.resumeFuseServer(options, { fuse, slots: held, mountPoint, connection });
  let isKept = slots !== null;
  const server = await resume(slots).catch((thrown: unknown) => {
    const error = toAfterimageError(thrown);
    if (error.code !== 'SLOTS_LAYOUT') throw error;
    // Better than not to serve: what was under way then is finished where the kernel sends it again (Linux 6.9).
    log.error({ device: settings.device, err: error }, 'what was under way may hang on an older kernel');
    isKept = false;
    return resume(null);
  });
  if (!isKept) keepSlots(server, custody);
  return attachment(settings.device, settings, settings.file, server, door, use, custody);
}

/** Of the resumed session, which has them for itself: the next process finds them. */
function keepSlots(server: native.FuseServer, custody: AttachmentCustody): void {
  custody.replace(() => {
    const { fuse, slots } = server.legacy();
    closeSync(fuse);
    return slots === null ? {} : { slots };
  });
}

function attachment(
  device: string,
  { mountPoint, link }: LoopPlaces,
  file: native.FileIdentity,
  server: native.FuseServer,
  door: LoopDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
): Attachment {
  const isOurs = (): Promise<boolean> => door.isLoopOver(device, file);
  const detach = (name: string): Promise<void> => detachOurs(name, isOurs, door.detachLoop);
  const isDetached = (): Promise<boolean> => tryDetach(device, detach);
  const usedBy = async (): Promise<string | null> => ((await isDetached()) ? null : describeUse(device));
  const finish = async (): Promise<void> => {
    custody.forget();
    await removeLink(link).finally(() => server.stop());
    await rmdir(mountPoint).catch(() => undefined);
  };
  return {
    device,
    usedBy: () => exclusiveUserOf(device),
    grow: (size) => door.resizeLoop(device, path.join(mountPoint, SERVED_FILE_NAME), size),
    async detach(end) {
      await use.untilNone(usedBy, end);
      await finish();
    },
    detachUnused: async () => ((await isDetached()) ? finish : null),
  };
}

/** Holds whatever becomes of its path: an unmount that is lazy leaves the file without one. */
async function identityOf(file: string): Promise<native.FileIdentity> {
  const { dev, ino } = await stat(file, { bigint: true });
  return { device: dev, inode: ino };
}
