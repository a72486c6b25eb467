/** What a member remembers across processes: its first value, and what of it still counts. */
import { sameVolumes, type VolumeInfo } from '../proto/replication.js';
import { higher } from '../proto/watermarks.js';
import type { GenerationNumbers, InheritedStream, StoredState } from './session_events.js';

/** Of a member that never ran. */
export const FIRST_STATE: StoredState = {
  epoch: 0n,
  generation: 0n,
  durableLsn: 0n,
  lsnCeiling: 0n,
  clean: false,
  volumes: [],
  timeNs: 0n,
  era: 0,
};

/** The state of a process that starts from `before`, and the stream that it may continue, or null. */
export function startedState(
  before: StoredState,
  volumes: VolumeInfo[],
  lsnReserve: bigint,
  inherited: InheritedStream | null,
): { state: StoredState; resume: GenerationNumbers | null } {
  const epoch = before.epoch + 1n;
  if (inherited !== null && sameVolumes(before.volumes, volumes)) {
    const { generation, capturedLsn, releasedLsn } = inherited;
    const ceiling = higher(before.lsnCeiling, higher(inherited.lsnCeiling, capturedLsn + lsnReserve));
    const state = {
      ...before,
      epoch,
      clean: false,
      generation: higher(before.generation, generation),
      durableLsn: higher(before.durableLsn, releasedLsn),
      lsnCeiling: ceiling,
    };
    return { state, resume: { epoch, generation, firstLsn: capturedLsn + 1n, lsnCeiling: ceiling } };
  }
  if (!before.clean || before.generation === 0n || !sameVolumes(before.volumes, volumes)) {
    // Nobody knows what the clock did since the last record: its times are not compared with those to come.
    return { state: { ...before, epoch, clean: false, volumes, era: before.era + 1 }, resume: null };
  }
  const reserved = before.durableLsn + lsnReserve;
  const lsnCeiling = reserved > before.lsnCeiling ? reserved : before.lsnCeiling;
  return {
    state: { ...before, epoch, clean: false, lsnCeiling },
    resume: { epoch, generation: before.generation, firstLsn: before.durableLsn + 1n, lsnCeiling },
  };
}
