/**
 * What a member's journal directory really holds, found at the start. Directory and frames are the truth; the catalog
 * may lag behind them, and tells what must be there.
 *
 * Only bytes beyond the last acknowledged LSN may be a torn tail and are cut. A bad frame before it is damage: what
 * follows is kept, and the hole is reported.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { SegmentInfo, SegmentScan } from '../../native/index.js';
import { constants } from 'node:os';
import { toAfterimageError } from '../../proto/errors.js';
import type { SegmentRow } from '../catalog/segments.js';
import { runFile, segmentFirstLsn } from '../store.js';
import { named } from '../../service/system_errors.js';
import { holesBetween, type Hole, type Range } from './holes.js';
import { segmentInfo } from './segment_row.js';

const { EIO } = constants.errno;

export interface Inspection {
  /** Every segment with at least one valid frame, ascending, each up to its last valid frame. */
  segments: SegmentInfo[];
  /** First LSNs of the segments that have a run. */
  runs: Set<bigint>;
  /** The last of `segments`, if it is not sealed and nothing acknowledged is missing behind it: append goes on there. */
  tail: SegmentInfo | null;
  holes: Hole[];
  /** Files without any valid frame, beyond every number that was used: an interrupted creation. */
  abandoned: string[];
  /**
   * Likewise beyond, but the disk does not give them: they may hold the frames of the last second, which only the agent
   * knows to be acknowledged.
   */
  unreadable: string[];
}
export interface InspectionOptions {
  directory: string;
  /** Of this member, ascending. */
  known: readonly SegmentRow[];
  /** A lower bound of what was acknowledged: no record up to there may be missing. */
  ackedLsn: bigint;
  /** Every number up to there has been given away, in whichever generation. */
  usedLsn: bigint;
  scan: (file: string, checkPayload: boolean) => Promise<SegmentScan>;
  isRunOf: (segment: SegmentInfo, runFile: string) => Promise<boolean>;
}

interface Found {
  info: SegmentInfo | null;
  /** Why the valid frames end before the file does, "" if they do not. */
  reason: string;
  /** The disk, and not what it holds, is why. */
  isUnreadable: boolean;
  /** Whole and of this very segment. */
  hasRun: boolean;
}

/** Errors: IO_ERROR, SEGMENT_VERSION (never taken for damage: a newer program wrote it). */
export async function inspectJournal(options: InspectionOptions): Promise<Inspection> {
  const { directory, known, ackedLsn, usedLsn } = options;
  const names = new Set((await named(readdir(directory), directory)).sort());
  const rows = new Map(known.map((row) => [row.firstLsn, row]));
  const segments: SegmentInfo[] = [];
  const runs = new Set<bigint>();
  const reasons = new Map<bigint, string>();
  const empty: { firstLsn: bigint; file: string; isUnreadable: boolean }[] = [];
  for (const name of names) {
    const firstLsn = segmentFirstLsn(name);
    if (firstLsn === null) continue;
    const file = path.join(directory, name);
    const run = names.has(path.basename(runFile(file))) ? runFile(file) : null;
    const row = rows.get(firstLsn) ?? null;
    const { info, reason, isUnreadable, hasRun } = await inspectSegment(file, run, row, options);
    if (reason !== '') reasons.set(firstLsn, reason);
    if (info === null) empty.push({ firstLsn, file, isUnreadable });
    else segments.push(info);
    if (hasRun) runs.add(firstLsn);
  }
  const holes = holesBetween(required(segments, known, ackedLsn), segments, reasons);
  const last = segments.at(-1);
  const isIntact = last !== undefined && !last.sealed && !holes.some((hole) => hole.firstLsn > last.lastLsn);
  // What was acknowledged is never removed, whatever has become of it: its disk may only have trouble today.
  const beyond = empty.filter(
    ({ firstLsn }) =>
      firstLsn > usedLsn && !holes.some((hole) => hole.firstLsn <= firstLsn && firstLsn <= hole.lastLsn),
  );
  return {
    segments,
    runs,
    tail: isIntact ? last : null,
    holes,
    abandoned: beyond.filter(({ isUnreadable }) => !isUnreadable).map(({ file }) => file),
    unreadable: beyond.filter(({ isUnreadable }) => isUnreadable).map(({ file }) => file),
  };
}

async function inspectSegment(
  file: string,
  run: string | null,
  row: SegmentRow | null,
  { scan, isRunOf }: InspectionOptions,
): Promise<Found> {
  const isIts = async (info: SegmentInfo): Promise<boolean> => run !== null && (await isRunOf(info, run));
  // A sealed segment never changes again: its size says that it is whole, and a run that it was read in full. Damage
  // since then is met when it is read (damage_watch.ts).
  if (row?.sealed === true && BigInt((await named(stat(file), file)).size) === row.bytes) {
    const info = segmentInfo(row, file);
    if (await isIts(info)) return { info, reason: '', isUnreadable: false, hasRun: true };
  }
  const { info, reason, isUnreadable } = await readSegment(file, scan);
  return { info, reason, isUnreadable, hasRun: info?.sealed === true && (await isIts(info)) };
}

/** A segment up to its last valid frame, read in full; null when there is none. Errors: as inspectJournal. */
export async function readSegment(
  file: string,
  scan: InspectionOptions['scan'],
): Promise<Omit<Found, 'hasRun'>> {
  try {
    const { info, stopReason } = await scan(file, true);
    return { info: info.frames === 0 ? null : info, reason: stopReason, isUnreadable: false };
  } catch (thrown) {
    if (!isDamage(thrown)) throw thrown;
    const { code, message } = toAfterimageError(thrown);
    return { info: null, reason: message, isUnreadable: code !== 'SEGMENT_CORRUPT' };
  }
}

/** Whether an error says that the medium does not give what was written: EIO too, after all that the kernel tried. */
export function isDamage(thrown: unknown): boolean {
  const { code, cause } = toAfterimageError(thrown);
  return code === 'SEGMENT_CORRUPT' || (code === 'IO_ERROR' && (cause as { errno?: unknown })?.errno === EIO);
}

/** What must be there: all that the catalog saw, all that was acknowledged, and a generation without interruption. */
function required(segments: readonly SegmentInfo[], known: readonly SegmentRow[], ackedLsn: bigint): Range[] {
  const ranges: Range[] = known.map(({ firstLsn, lastLsn }) => ({ firstLsn, lastLsn }));
  segments.forEach((segment, index) => {
    const before = segments[index - 1];
    if (before?.generation === segment.generation) {
      ranges.push({ firstLsn: before.lastLsn + 1n, lastLsn: segment.firstLsn - 1n });
    }
  });
  const lastKnown = known.at(-1)?.lastLsn ?? 0n;
  const lastFound = segments.at(-1)?.lastLsn ?? 0n;
  const last = lastFound > lastKnown ? lastFound : lastKnown;
  if (ackedLsn > last) ranges.push({ firstLsn: last + 1n, lastLsn: ackedLsn });
  return ranges.filter(({ firstLsn, lastLsn }) => firstLsn <= lastLsn);
}
