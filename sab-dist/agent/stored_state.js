/** What a member remembers across processes: its first value, and what of it still counts. */
import { sameVolumes } from '../proto/replication.js';
import { higher } from '../proto/watermarks.js';
/** Processes that are remembered: as many may come and go while the receiver is away, before it compares everything. */
const PROCESSES_MAX = 33;
/** Of a member that never ran. */
export const FIRST_STATE = {
    epoch: 0n,
    generation: 0n,
    durableLsn: 0n,
    lsnCeiling: 0n,
    clean: false,
    volumes: [],
    timeNs: 0n,
    era: 0,
    processes: [],
};
/** The state of a process that starts from `before`, and the stream that it may continue, or null. */
export function startedState(before, { volumes, instance }, lsnReserve, inherited) {
    const epoch = before.epoch + 1n;
    // Another session of the same process has its instance.
    const others = before.processes.filter((process) => !process.equals(instance));
    const processes = [instance, ...others].slice(0, PROCESSES_MAX);
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
//# sourceMappingURL=stored_state.js.map