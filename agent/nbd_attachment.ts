/**
 * A volume as /dev/nbdN: a device of the kernel's nbd driver that the addon serves over a socket pair, with a stable link to
 * it. Its requests wait while no agent is there, and come again when one is: nothing of it has to outlive the process but
 * its number, which the kernel tells too. Needs root and the nbd module.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { formatUuid } from '../proto/uuid.js';
import type { Log } from '../service/log.js';
import { describeUse, exclusiveUserOf } from '../service/loop_devices.js';
import { systemError } from '../service/system_errors.js';
import type * as native from '../native/index.js';
import type { Attachment } from './attachment.js';
import type { AttachmentCustody } from './custody.js';
import type { NbdSettings } from './served_settings.js';
import { clearLink, placeLink, removeLink } from './stable_link.js';
import type { VolumeUse } from './volume_use.js';

export type NbdDoor = Pick<typeof native, 'attachNbd' | 'resumeNbd' | 'detachNbd' | 'resizeNbd'>;

const SECTOR_BYTES = 512n;

/** How the kernel names the owner of a volume's device. */
export const nbdBackend = (volume: Buffer): string => `afterimage-${formatUuid(volume)}`;

/**
 * `link`: where the stable link goes. A device that a killed agent left is served again, whoever uses it. Errors:
 * NBD_UNAVAILABLE, NBD_ATTACH, NBD_BUSY (a device of a killed agent is no smaller one), IO_ERROR.
 */
export async function attachNbdDevice(
  link: string,
  backend: string,
  device: native.BlockDevice,
  door: NbdDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
  log: Log,
): Promise<Attachment> {
  await clearLink(link);
  const left = await nbdDeviceOf(backend);
  if (left !== null) {
    await refuseLarger(left, device);
    await door.resizeNbd(left, backend, device.size);
    log.warn({ device: left }, 'serving a device that a killed agent left');
  }
  const served =
    left === null ? await door.attachNbd(device, backend) : await door.resumeNbd(device, backend, left);
  try {
    const settings: NbdSettings = { kind: 'nbd', device: served.name, link, backend };
    await custody.keep(() => ({ attachment: settings, descriptors: {} }));
    await placeLink(link, served.name);
    return attachment(settings, served, door, use, custody);
  } catch (thrown) {
    custody.forget();
    const error = (second: unknown): void => log.error({ err: second }, 'after a failed attachment');
    await door.detachNbd(served.name, backend, false).catch(error);
    await served.stop().catch(error);
    throw toAfterimageError(thrown);
  }
}

/** Goes on with what a predecessor served. Errors: NBD_UNAVAILABLE, NBD_GONE (somebody has detached it), MEMORY_UNAVAILABLE. */
export async function resumeNbdDevice(
  settings: NbdSettings,
  device: native.BlockDevice,
  door: NbdDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
): Promise<Attachment> {
  const served = await door.resumeNbd(device, settings.backend, settings.device);
  return attachment(settings, served, door, use, custody);
}

function attachment(
  { device, link, backend }: NbdSettings,
  served: native.NbdDevice,
  door: NbdDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
): Attachment {
  const isDetached = async (): Promise<boolean> => {
    try {
      await door.detachNbd(device, backend, false);
      return true;
    } catch (thrown) {
      if (toAfterimageError(thrown).code !== 'NBD_BUSY') throw thrown;
      return false;
    }
  };
  const usedBy = async (): Promise<string | null> => ((await isDetached()) ? null : describeUse(device));
  const finish = async (): Promise<void> => {
    custody.forget();
    await removeLink(link).finally(() => served.stop());
  };
  return {
    device,
    usedBy: () => exclusiveUserOf(device),
    grow: (size) => door.resizeNbd(device, backend, size),
    async detach(end) {
      // Nobody answers what waits for an agent that was told to go at once.
      if (!(await use.untilNone(usedBy, end))) await door.detachNbd(device, backend, true);
      await finish();
    },
    detachUnused: async () => ((await isDetached()) ? finish : null),
  };
}

/** "/dev/nbdN" of the device that is attached for `backend`; null: there is none. */
async function nbdDeviceOf(backend: string, blockDevices = '/sys/block'): Promise<string | null> {
  for (const name of await readdir(blockDevices)) {
    if (!name.startsWith('nbd')) continue;
    const attribute = `${blockDevices}/${name}/backend`;
    const text = await readFile(attribute, 'utf8').catch((thrown: unknown) => {
      const { code } = thrown as NodeJS.ErrnoException;
      // Only attached ones have it, and one may be detached meanwhile.
      if (code === 'ENOENT' || code === 'ENODEV') return '';
      throw systemError(thrown, attribute);
    });
    if (text.trimEnd() === backend) return `/dev/${name}`;
  }
  return null;
}

/** A smaller one grows: Attachment.grow. */
async function refuseLarger(left: string, { size, blockSize }: native.BlockDevice): Promise<void> {
  const attributes = path.join('/sys/block', path.basename(left));
  const read = async (name: string): Promise<bigint> =>
    BigInt((await readFile(path.join(attributes, name), 'utf8')).trim());
  const isWithin =
    (await read('size')) * SECTOR_BYTES <= size &&
    (await read('queue/logical_block_size')) === BigInt(blockSize);
  if (isWithin) return;
  throw new AfterimageError(
    'NBD_BUSY',
    `${left} of an agent that was killed is larger than the backing, or has other blocks`,
  );
}
