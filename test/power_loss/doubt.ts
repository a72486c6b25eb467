/**
 * R8 in one state: an extent that the dirty logs do not mark holds the same in the backing and at the receiver, and nothing was
 * written to it that is not acknowledged; or a whole volume is compared, since its log is not believed. And no log rests on
 * what was not acknowledged: the next agent would have all of the volume compared.
 */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { DIRTY_EXTENT_BYTES, openDirtyLog, positionOf } from '../../agent/dirty_logs.js';
import * as native from '../../native/index.js';
import { parseUuid } from '../../proto/uuid.js';
import { logAtHello } from '../../receiver/log_claims.js';
import type { Member } from '../../receiver/members.js';
import type { OpenedReceiver } from './opened_receiver.js';
import type { Promises } from './promises.js';
import { backingName, BEHIND, STATE } from './recording.js';
import { BLOCK_BYTES, hashOf, type Truth } from './truth.js';
import type { Verdict } from './verdict.js';

const OPENING_MS = 60_000;
const EXTENT_BLOCKS = DIRTY_EXTENT_BYTES / BLOCK_BYTES;
/** Somebody else writes there, which nobody can mark. */
const BEHIND_BLOCK = BEHIND.offset / BLOCK_BYTES;

/** `directory`: the state, of which the next agent has changed nothing yet. */
export async function judgeDoubt(
  directory: string,
  { catalog }: OpenedReceiver,
  { journal }: Member,
  truth: Truth,
  { durableLsn, usedLsn }: Promises,
  verdict: Verdict,
): Promise<void> {
  const member = journal.member.uuid;
  const owed = truth.touchedBetween(durableLsn, usedLsn);
  // A receiver that power was taken from again while it was judged has frames that this moment's agent has not written yet.
  const shown = journal.durableLsn < usedLsn ? journal.durableLsn : usedLsn;
  for (const { number, name, uuid, size } of catalog.volumes.volumes(member)) {
    const state = path.join(directory, STATE);
    const log = await openDirtyLog(state, { uuid: parseUuid(uuid), size }, native.openDirtyLog, OPENING_MS);
    try {
      const known = catalog.doubts.doubt(member, number);
      const position = positionOf(number, log);
      if (position.basisLsn > durableLsn)
        verdict.violations.add(
          'R8',
          `the log of ${name} rests on LSN ${position.basisLsn}, acknowledged last was ${durableLsn}`,
        );
      if (logAtHello(known, position, journal.durableLsn).whole) continue;
      const writtenTo = extentsOf(owed.get(number) ?? new Set());
      const backing = path.join(directory, backingName(name));
      for (let extent = 0; extent * DIRTY_EXTENT_BYTES < size; extent += 1) {
        const isMarked = log.isMarked(BigInt(extent * DIRTY_EXTENT_BYTES));
        const isOwed = writtenTo.has(extent);
        if (isOwed) verdict.marked += 1;
        if (isMarked) continue;
        verdict.unmarked += 1;
        const where = `extent ${extent} of ${name} is not marked`;
        if (isOwed)
          verdict.violations.add(
            'R8',
            `${where}: it was written to after LSN ${durableLsn}, acknowledged last`,
          );
        const wrong = await differing(backing, number, extent, truth, shown);
        if (wrong.length > 0)
          verdict.violations.add(
            'R8',
            `${where}: ${wrong.length} blocks are not what LSN ${shown} shows: ${wrong.slice(0, 5).join(', ')}`,
          );
      }
    } finally {
      await log.end();
    }
  }
}

function extentsOf(blocks: ReadonlySet<number>): Set<number> {
  return new Set([...blocks].map((block) => Math.floor(block / EXTENT_BLOCKS)));
}

/** Blocks of an extent that the backing has otherwise than the receiver. */
async function differing(
  backing: string,
  volume: number,
  extent: number,
  truth: Truth,
  lsn: bigint,
): Promise<number[]> {
  const content = Buffer.alloc(DIRTY_EXTENT_BYTES);
  const handle = await open(backing, 'r');
  const { bytesRead } = await handle
    .read(content, 0, content.length, extent * DIRTY_EXTENT_BYTES)
    .finally(() => handle.close());
  const first = extent * EXTENT_BLOCKS;
  return Array.from({ length: bytesRead / BLOCK_BYTES }, (_, index) => first + index).filter((block) => {
    if (volume === BEHIND.volume && block === BEHIND_BLOCK) return false;
    const at = (block - first) * BLOCK_BYTES;
    return hashOf(content.subarray(at, at + BLOCK_BYTES)) !== truth.hashAt(volume, block, lsn);
  });
}
