/** The backings of a group, as they are opened: all, or none. */
import { randomBytes } from 'node:crypto';
import { AfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { refuseHolding } from './backing.js';
import type { GroupConfig } from './config.js';
import { removeDirtyLog } from './dirty_logs.js';
import { endAll } from './endings.js';
import type { MemberState } from './state.js';
import { ProtectedVolume, type VolumeDoor } from './volume.js';

const VOLUME_NUMBERS = 64;
const UUID_BYTES = 16;

export interface OpeningSurroundings {
  door: VolumeDoor;
  stateDir: string;
  /** Of all groups; null: none has a spool. */
  spoolDir: string | null;
  log: Log;
}

/** Those that are served already are there, also where the configuration forgot them. Errors: VOLUME_LIMIT, those of ProtectedVolume.open. */
export async function openVolumes(
  config: GroupConfig,
  state: MemberState,
  taken: readonly ProtectedVolume[],
  { stateDir, spoolDir, door, log }: OpeningSurroundings,
): Promise<ProtectedVolume[]> {
  const remembered = state.memory.volumes;
  const volumes: ProtectedVolume[] = [];
  let nextNumber = Math.max(-1, ...Object.values(remembered).map(({ number }) => number)) + 1;
  try {
    for (const one of config.volumes) {
      if (taken.some((volume) => volume.config.name === one.name)) continue;
      const memory = remembered[one.name] ?? null;
      const identity = memory ?? { number: nextNumber++, uuid: randomBytes(UUID_BYTES) };
      if (identity.number >= VOLUME_NUMBERS) {
        throw new AfterimageError('VOLUME_LIMIT', `${config.name} has had ${VOLUME_NUMBERS} volumes already`);
      }
      const spool = config.spool?.directory ?? spoolDir;
      if (spool !== null) {
        for (const device of one.mapped === null ? [one.backing] : [one.backing, one.mapped])
          await refuseHolding(device, spool);
      }
      volumes.push(await ProtectedVolume.open(one, identity, memory, stateDir, door));
    }
    return [...taken, ...volumes];
  } catch (thrown) {
    await rememberUntouched(volumes, state).catch((error: unknown) =>
      log.warn({ err: error }, 'the next start compares'),
    );
    await endAll(
      () => volumes.map((volume) => volume.close()),
      () => volumes.filter(({ isNew }) => isNew).map(({ info }) => removeDirtyLog(stateDir, info.uuid)),
    ).catch((error: unknown) => log.warn({ err: error }, 'after volumes that could not be opened'));
    throw thrown;
  }
}

/** What an operator should know of a volume's dirty log at the start. */
export function tellLog({ title, log: dirtyLog, isNew }: ProtectedVolume, log: Log): void {
  const { distrust } = dirtyLog.state();
  if (distrust !== '' && !isNew) log.warn(`${title} is in doubt as a whole: ${distrust}`);
}

/** They were opened, which changes a fingerprint, and will be given back: what was clean is clean still. */
async function rememberUntouched(volumes: readonly ProtectedVolume[], state: MemberState): Promise<void> {
  const untouched = volumes.filter((volume) => volume.isUntouched);
  if (untouched.length === 0) return;
  const remembered = { ...state.memory.volumes };
  for (const volume of untouched) remembered[volume.config.name] = await volume.remember(true);
  await state.update({ volumes: remembered });
}
