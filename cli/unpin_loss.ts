/** What retention may let go of once a checkpoint is not pinned any more. */
import type { CheckpointInfo, GroupStatus } from '../proto/control.js';
import { formatBytes, formatDuration } from './quantity.js';

/** For people: "3 h 20 m of history, about 41.0 GiB"; null: nothing that is not due. */
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
