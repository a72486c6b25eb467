/** Where the dirty logs lie: a file for each volume, under the state directory, by UUID. docs/FORMAT.md has their bytes. */
import path from 'node:path';
import { formatUuid } from '../proto/uuid.js';
import type { DirtyLogPosition, VolumeInfo } from '../proto/replication.js';
import type * as native from '../native/index.js';

/** As native/capture/dirty_log_file.h has them. */
export const DIRTY_EXTENT_BYTES = 4 << 20;

/** Whatever the disk says, or does not say in time, there is a log, perhaps a void one. Errors: MEMORY_UNAVAILABLE. */
export function openDirtyLog(
  stateDir: string,
  { uuid, size }: Pick<VolumeInfo, 'uuid' | 'size'>,
  open: typeof native.openDirtyLog,
  openingPatienceMs: number,
): Promise<native.DirtyLog> {
  const file = path.join(stateDir, 'dirty', `${formatUuid(uuid)}.log`);
  return open({ path: file, volume: uuid, volumeBytes: size, openingPatienceMs });
}

export function positionOf(volume: number, log: native.DirtyLog): DirtyLogPosition {
  const { id, sequence, basisLsn } = log.state();
  return { volume, id, sequence, basisLsn };
}
