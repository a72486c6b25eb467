/** Where the dirty logs lie: a file for each volume, under the state directory, by UUID. docs/FORMAT.md has their bytes. */
import { rm } from 'node:fs/promises';
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
  return open({ path: fileOf(stateDir, uuid), volume: uuid, volumeBytes: size, openingPatienceMs });
}

/** Of a volume that nobody will know any more. Errors: those of the file system. */
export function removeDirtyLog(stateDir: string, uuid: Buffer): Promise<void> {
  return rm(fileOf(stateDir, uuid), { force: true });
}

function fileOf(stateDir: string, uuid: Buffer): string {
  return path.join(stateDir, 'dirty', `${formatUuid(uuid)}.log`);
}

export function positionOf(volume: number, log: native.DirtyLog): DirtyLogPosition {
  const { id, sequence, basisLsn } = log.state();
  return { volume, id, sequence, basisLsn };
}
