/**
 * R8 in one state: what an agent may have captured and nobody has acknowledged lies in extents that its dirty logs mark, or a
 * whole volume is compared, since its log is not believed.
 */
import { DIRTY_EXTENT_BYTES, openDirtyLog, positionOf } from '../../agent/dirty_logs.js';
import * as native from '../../native/index.js';
import { parseUuid } from '../../proto/uuid.js';
import { logAtHello } from '../../receiver/log_claims.js';
import type { Member } from '../../receiver/members.js';
import type { OpenedReceiver } from './opened_receiver.js';
import type { Promises } from './promises.js';
import { BLOCK_BYTES, type Truth } from './truth.js';
import type { Verdict } from './verdict.js';

const EXTENT_BLOCKS = DIRTY_EXTENT_BYTES / BLOCK_BYTES;

/** `state`: the agent's state directory, of which the next agent has changed nothing yet. */
export async function judgeDoubt(
  state: string,
  { catalog }: OpenedReceiver,
  { journal }: Member,
  truth: Truth,
  { durableLsn, usedLsn }: Promises,
  verdict: Verdict,
): Promise<void> {
  const member = journal.member.uuid;
  const owed = truth.touchedBetween(durableLsn, usedLsn);
  for (const { number, uuid, size } of catalog.volumes.volumes(member)) {
    const blocks = owed.get(number);
    if (blocks === undefined) continue;
    const log = await openDirtyLog(state, { uuid: parseUuid(uuid), size }, native.openDirtyLog);
    try {
      const known = catalog.doubts.doubt(member, number);
      if (logAtHello(known, positionOf(number, log), journal.durableLsn).whole) continue;
      for (const extent of new Set([...blocks].map((block) => Math.floor(block / EXTENT_BLOCKS)))) {
        verdict.extents += 1;
        if (log.isMarked(BigInt(extent * DIRTY_EXTENT_BYTES))) continue;
        verdict.violations.add(
          'R8',
          `extent ${extent} of volume ${number} is not marked: it was written to after LSN ${durableLsn}, which was acknowledged last`,
        );
      }
    } finally {
      await log.end();
    }
  }
}
