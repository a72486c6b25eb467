/** What a member remembers across processes: its first value, and what of it still counts. */
import { sameVolumes } from '../proto/replication.js';
import type { DirtyLogPosition, VolumeInfo } from '../proto/replication.js';
import { higher } from '../proto/watermarks.js';
import type { GenerationNumbers, InheritedStream, MemberIdentity, StoredState } from './session_events.js';

/** Processes that are remembered: as many may come and go while the receiver is away, before it compares everything. */
const PROCESSES_MAX = 33;

/** Of a member that never ran. */
export const FIRST_STATE: StoredState = {
  epoch: 0n,
  generation: 0n,
  acceptedGeneration: 0n,
  durableLsn: 0n,
  lsnCeiling: 0n,
  clean: false,
  volumes: [],
  timeNs: 0n,
  era: 0,
  processes: [],
  unwelcomedLogs: [],
};

/** The state of a process that starts from `stored` and finds `logs`, and the stream that it may continue, or null. */
export function startedState(
  stored: StoredState,
  logs: readonly DirtyLogPosition[],
  { volumes, instance }: Pick<MemberIdentity, 'volumes' | 'instance'>,
  lsnReserve: bigint,
  inherited: InheritedStream | null,
): { state: StoredState; resume: GenerationNumbers | null } {
  const before = { ...stored, unwelcomedLogs: withFound(stored.unwelcomedLogs, logs) };
  const epoch = before.epoch + 1n;
  // Another session of the same process has its instance.
  const others = before.processes.filter((process) => !process.equals(instance));
  const processes = [instance, ...others].slice(0, PROCESSES_MAX);
  if (inherited !== null && sameVolumes(sizedAs(before.volumes, volumes), volumes)) {
    const { generation, capturedLsn, releasedLsn } = inherited;
    const ceiling = higher(before.lsnCeiling, higher(inherited.lsnCeiling, capturedLsn + lsnReserve));
    const state = {
      ...before,
      epoch,
      clean: false,
      volumes,
      generation: higher(before.generation, generation),
      durableLsn: higher(before.durableLsn, releasedLsn),
      lsnCeiling: ceiling,
      processes,
    };
    return { state, resume: { epoch, generation, firstLsn: capturedLsn + 1n, lsnCeiling: ceiling } };
  }
  if (!before.clean || before.generation === 0n || !sameVolumes(before.volumes, volumes)) {
    // Nobody knows what the clock did since the last record: its times are not compared with those to come.
    return {
      state: { ...before, epoch, clean: false, volumes, era: before.era + 1, processes },
      resume: null,
    };
  }
  const reserved = before.durableLsn + lsnReserve;
  const lsnCeiling = reserved > before.lsnCeiling ? reserved : before.lsnCeiling;
  return {
    state: { ...before, epoch, clean: false, lsnCeiling, processes },
    resume: { epoch, generation: before.generation, firstLsn: before.durableLsn + 1n, lsnCeiling },
  };
}

/** A predecessor's volumes may have grown since: its stream, which that has ended, is theirs. */
function sizedAs(before: readonly VolumeInfo[], volumes: readonly VolumeInfo[]): VolumeInfo[] {
  return before.map((volume) => {
    const now = volumes.find(({ uuid }) => uuid.equals(volume.uuid));
    return { ...volume, size: now?.size ?? volume.size };
  });
}

/** StoredState.unwelcomedLogs, now that `logs` were found as they are. */
export function withFound(
  earlier: readonly DirtyLogPosition[],
  logs: readonly DirtyLogPosition[],
): DirtyLogPosition[] {
  const away = earlier.filter((one) => logs.every(({ volume }) => volume !== one.volume));
  return [...logs.map((log) => unwelcomed(log, earlier)), ...away];
}

/**
 * What is said of `log`, as it is found: its sequence is that before any process marked something that no receiver knows.
 * Such marks could make up for those that another process, with a copy of this state, has told of.
 */
function unwelcomed(log: DirtyLogPosition, earlier: readonly DirtyLogPosition[]): DirtyLogPosition {
  const before = earlier.find(({ volume, id }) => volume === log.volume && id === log.id);
  return before !== undefined && before.sequence < log.sequence ? { ...log, sequence: before.sequence } : log;
}
