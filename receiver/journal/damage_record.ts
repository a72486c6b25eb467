/**
 * How damage is written down (R5): the instants that it touches, and, where the newest one is among them, the end of the
 * generation that was built on them.
 */
import type { Log } from '../../service/log.js';
import type { Catalog } from '../catalog/catalog.js';
import { coveredTime } from '../coverage.js';
import type { ErrorCode } from '../../proto/errors.js';
import { unknownParts, type Hole } from './holes.js';
import type { TouchedEnd } from './lost_records.js';
import { higher } from '../../proto/watermarks.js';

/** Where a journal ends. */
export interface JournalEnd {
  lastLsn: bigint;
  lastTimeNs: bigint;
}

/**
 * Records what of `holes` (ascending) is new. `touched`: the last instant that they touch. Null: the newest one, and then
 * the present generation ends, so that the next one is compared anew. Whether anything was new. Belongs into a
 * transaction.
 */
export function recordDamage(
  { catalog, log }: { catalog: Catalog; log: Log },
  uuid: string,
  holes: readonly Hole[],
  end: JournalEnd,
  touched: TouchedEnd | null,
): boolean {
  const member = catalog.members.member(uuid);
  const newest = catalog.generations.newest(uuid);
  const known = catalog.damage.damage(uuid);
  const found = holes.flatMap((hole) => unknownParts(hole, known));
  if (member === null || newest === null || found.length === 0) return false;
  for (const { firstLsn, lastLsn, reason } of found) {
    log.error(
      { code: 'SEGMENT_CORRUPT', member: uuid, firstLsn, lastLsn, touchedLsn: touched?.lsn ?? null, reason },
      'acknowledged records are missing from the journal: the instants that they touch are graded damaged',
    );
    catalog.damage.add({
      ...{ member: uuid, firstLsn, lastLsn, foundGeneration: newest.generation, reason },
      ...{ touchedLsn: touched?.lsn ?? null, touchedTimeNs: touched?.timeNs ?? null },
    });
  }
  // All that the agent was told of is there: what it has unmarked since is equal.
  if (touched !== null) return true;
  endInDoubt(
    catalog,
    uuid,
    { ...end, lastLsn: higher(end.lastLsn, found.at(-1)?.lastLsn ?? 0n) },
    'SEGMENT_CORRUPT',
  );
  return true;
}

/**
 * Ends the present generation, if it lasts, so that the next one is compared anew as a whole: after damage, and where
 * somebody else has written. Belongs into a transaction.
 */
export function endInDoubt(catalog: Catalog, uuid: string, end: JournalEnd, reason: ErrorCode): void {
  const member = catalog.members.member(uuid);
  const newest = catalog.generations.newest(uuid);
  if (member === null || newest === null) return;
  // What was unmarked at the agent because the receiver has it is not equal any more.
  catalog.doubts.raise(uuid);
  const lastLsn = [
    end.lastLsn,
    member.ackedLsn,
    // It may have no record yet.
    newest.firstLsn - 1n,
  ].reduce(higher);
  const coveredNs = coveredTime(member.coverage, newest.firstLsn, catalog.eras.eras(uuid));
  const endNs = higher(end.lastTimeNs, coveredNs);
  catalog.generations.end(uuid, newest.generation, lastLsn, endNs, reason);
}
