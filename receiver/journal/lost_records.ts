/**
 * Which instants lost records touch (R5): those up to which not all that they had set was set again by records behind
 * them. What they had set is known from the run of their segment, built when it was whole; what later records set, from
 * their runs. No base is looked at.
 */
import type * as native from '../../native/index.js';
import type { PointTile, SegmentInfo } from '../../native/index.js';
import { runFile } from '../store.js';
import { isDamage } from './inspection.js';
import type { MemberJournal } from './journal.js';

/** Segments of one call: a worker thread is not away for long. */
const TILES_MAX = 64;

/** The last instant that lost records touch, and a time that is not before it; null where none is known. */
export interface TouchedEnd {
  lsn: bigint;
  timeNs: bigint | null;
}

/**
 * The last instant that the lost records of a segment touch; null: the newest one, as far as can be known. `whole`: the
 * segment as it was; `intact`: what is left of it. What is appended meanwhile does not count. Errors: those of
 * openLostExtents and LostExtents.follow: it cannot be known.
 */
export async function touchedEnd(
  openLostExtents: typeof native.openLostExtents,
  journal: Pick<MemberJournal, 'durableLsn' | 'tiles' | 'timeAt'>,
  whole: SegmentInfo,
  intact: SegmentInfo | null,
): Promise<TouchedEnd | null> {
  const { durableLsn } = journal;
  const lost = await openLostExtents(whole, runFile(whole.path), intact);
  const tiles = journal.tiles(whole.lastLsn, durableLsn);
  for (let at = 0; at < tiles.length; at += TILES_MAX) {
    const free = await lost.follow(tiles.slice(at, at + TILES_MAX), durableLsn);
    if (free === null) continue;
    const lsn = free - 1n;
    if (lsn === whole.lastLsn) return { lsn, timeNs: whole.lastTimeNs };
    return { lsn, timeNs: await timeBy(journal, lsn, tiles) };
  }
  return null;
}

/** The time of the record `lsn`, or of one behind it where it is lost, or none, as between two generations. */
async function timeBy(
  journal: Pick<MemberJournal, 'timeAt'>,
  lsn: bigint,
  tiles: readonly PointTile[],
): Promise<bigint | null> {
  try {
    const timeNs = await journal.timeAt(lsn);
    if (timeNs !== null) return timeNs;
  } catch (thrown) {
    if (!isDamage(thrown)) throw thrown;
  }
  return tiles.find(({ segment }) => segment.lastLsn >= lsn)?.segment.lastTimeNs ?? null;
}
