/** What a pin keeps, or lets go of, in numbers, for people who are asked about it. */
import type { CheckpointInfo, GroupStatus } from '../proto/control.js';
import { formatBytes, formatDuration } from './quantity.js';

const DAY_NS = 86_400_000_000_000n;
/** A shorter window says nothing of a day. */
const WINDOW_NS_MIN = 60_000_000_000n;

/**
 * What retention may let go of once a checkpoint is not pinned any more: "3 h 20 m of history, about 41.0 GiB"; null: nothing
 * that is not due.
 */
export function unpinLoss(
  checkpoint: CheckpointInfo,
  checkpoints: readonly CheckpointInfo[],
  members: readonly GroupStatus[],
): string | null {
  const isHeldByAnother = checkpoints.some(
    ({ name, pinned, timeNs }) => pinned && name !== checkpoint.name && timeNs <= checkpoint.timeNs,
  );
  if (isHeldByAnother) return null;
  let lossNs = 0n;
  let bytes = 0n;
  for (const { windowBeginNs, windowEndNs, retentionWindowNs, journalBytes } of members) {
    const heldNs = windowEndNs - windowBeginNs;
    if (heldNs <= 0n) continue;
    // From there on it is held in any case.
    const dueNs = windowEndNs - retentionWindowNs;
    const beginNs = checkpoint.timeNs > windowBeginNs ? checkpoint.timeNs : windowBeginNs;
    const ofMember = dueNs - beginNs;
    if (ofMember <= 0n) continue;
    if (ofMember > lossNs) lossNs = ofMember;
    bytes += (journalBytes * ofMember) / heldNs;
  }
  return lossNs === 0n ? null : `${formatDuration(lossNs)} of history, about ${formatBytes(bytes)}`;
}

/**
 * What a lock of that length fills the store with by its end, as far as the window that is held tells: "about 3.1 GiB a day,
 * 93.0 GiB by then"; null: nothing is held that would tell.
 */
export function lockCost(lengthNs: bigint, members: readonly GroupStatus[]): string | null {
  let dayBytes = 0n;
  for (const { windowBeginNs, windowEndNs, journalBytes } of members) {
    const heldNs = windowEndNs - windowBeginNs;
    if (heldNs >= WINDOW_NS_MIN) dayBytes += (journalBytes * DAY_NS) / heldNs;
  }
  if (dayBytes === 0n) return null;
  return `about ${formatBytes(dayBytes)} a day, ${formatBytes((dayBytes * lengthNs) / DAY_NS)} by then`;
}
