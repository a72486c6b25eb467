/**
 * The device or file that really holds a volume's bytes: opened so that nobody writes behind the agent. Whether somebody
 * wrote while no agent held it: backing_fingerprint.ts.
 */
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError } from '../proto/errors.js';
import { deviceNumber } from '../service/device_number.js';
import { devicesUnder } from '../service/devices_under.js';
import { loopDevicesOver } from '../service/loop_devices.js';
import type * as native from '../native/index.js';
import { statOf } from './backing_fingerprint.js';
import { isOtherDevice } from './backing_identity.js';
import type { AgentConfig, VolumeConfig } from './config.js';
import type { VolumeMemory } from './state.js';

/** What a segment's header can say of a volume: docs/FORMAT.md, "Volume entry". */
const BLOCK_BYTES: readonly number[] = [512, 4096];
export const VOLUME_BYTES_MAX = 2n ** 49n;

export type OpenFileDevice = typeof native.openFileDevice;

/**
 * Opens the backing of `config` for the agent alone. `memory` is what the last run knew of the volume, null for a new
 * one: since then it may have grown, unless `identity` says that it is another device. What is read of it is what its disk
 * has, also where a predecessor's flush had failed. Errors: BACKING_MISSING, BACKING_BUSY, BACKING_INVALID, BACKING_RESIZED
 * (it has shrunk, or is another device of another size), BACKING_ON_ITSELF, PERMISSION_DENIED, IO_ERROR.
 */
export async function openBacking(
  config: VolumeConfig,
  memory: Pick<VolumeMemory, 'size' | 'identity'> | null,
  identity: string,
  stateDir: string,
  openFileDevice: OpenFileDevice,
): Promise<native.BlockDevice> {
  await refuseHolding(config.backing, stateDir);
  if (config.mapped !== null) await refuseHolding(config.mapped, stateDir);
  await refuseUnderLoop(config.backing);
  const device = await openFileDevice({
    path: config.backing,
    cache: config.cache,
    readOnly: false,
    exclusive: true,
  });
  if (!BLOCK_BYTES.includes(device.blockSize) || device.size > VOLUME_BYTES_MAX) {
    const { size, blockSize } = device;
    await device.close();
    throw new AfterimageError(
      'BACKING_INVALID',
      `${config.backing} of volume ${config.name} has ${size} bytes in blocks of ${blockSize}; ` +
        `up to ${VOLUME_BYTES_MAX} in blocks of ${BLOCK_BYTES.join(' or ')} can be protected`,
    );
  }
  const { size } = device;
  if (memory !== null && size !== memory.size && isOtherDevice(memory.identity, identity)) {
    await device.close();
    throw new AfterimageError(
      'BACKING_RESIZED',
      `${config.backing} of volume ${config.name} is another device (${identity}) than before ` +
        `(${memory.identity}), and has ${size} bytes, not ${memory.size}`,
    );
  }
  if (memory !== null && size < memory.size) {
    await device.close();
    throw new AfterimageError(
      'BACKING_RESIZED',
      `${config.backing} of volume ${config.name} has ${size} bytes, and had ${memory.size}`,
    );
  }
  await device.forgetCached();
  return device;
}

/** As below, of the device or file at `backing`. Errors: BACKING_ON_ITSELF, BACKING_MISSING, PERMISSION_DENIED. */
export async function refuseHolding(backing: string, directory: string): Promise<void> {
  await refuseDeviceHolding(backing, deviceNumber((await statOf(backing)).rdev), directory);
}

/**
 * Whether state or spool would lie on a volume, as far as that can be told without opening any. Errors: BACKING_ON_ITSELF,
 * PERMISSION_DENIED.
 */
export async function refuseSelfHolding({ stateDir, groups }: AgentConfig): Promise<void> {
  const spoolDirs = groups.flatMap(({ spool }) => (spool === null ? [] : [spool.directory]));
  const directories = new Set([stateDir, ...spoolDirs]);
  for (const { volumes } of groups) {
    for (const { backing, mapped } of volumes) {
      for (const device of mapped === null ? [backing] : [backing, mapped]) {
        if (!existsSync(device)) continue; // it may be there when the agent starts
        for (const directory of directories) await refuseHolding(device, directory);
      }
    }
  }
}

/**
 * A write to `file`, state or spool, in the path of a write to the volume that holds it, would wait for itself. Of what is
 * not there yet, where it will be. `number`: the device's, "MAJOR:MINOR". Errors: BACKING_ON_ITSELF, PERMISSION_DENIED.
 */
export async function refuseDeviceHolding(device: string, number: string, file: string): Promise<void> {
  let there = file;
  while (there !== path.dirname(there) && !existsSync(there)) there = path.dirname(there);
  if ((await devicesUnder(there)).has(number))
    throw new AfterimageError('BACKING_ON_ITSELF', `${file} lies on ${device}`);
}

/** A lock on a file does not keep a loop device over it from writing. */
async function refuseUnderLoop(backing: string): Promise<void> {
  const devices = await loopDevicesOver(await realpath(backing));
  if (devices.length === 0) return;
  throw new AfterimageError('BACKING_BUSY', `${backing} is in use as ${devices.join(', ')}`);
}
