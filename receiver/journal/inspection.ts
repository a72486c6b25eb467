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
import { AfterimageError } from '../../proto/errors.js';
import type { SegmentRow } from '../catalog/segments.js';
import { runFile, segmentFirstLsn } from '../store.js';
import { named } from '../system_errors.js';
import { segmentInfo } from './segment_row.js';

/** Records that were acknowledged and are not there any more. */
export interface Hole {
  firstLsn: bigint;
  lastLsn: bigint;
  reason: string;
}
export interface Inspection {
  /** Every segment with at least one valid frame, ascending, each up to its last valid frame. */
  segments: SegmentInfo[];
  /** First LSNs of the segments that have a run. */
  runs: Set<bigint>;
  /** The last of `segments`, if it is not sealed and nothing acknowledged is missing behind it: append goes on there. */
  tail: SegmentInfo | null;
  holes: Hole[];
  /** Files without any valid frame, of which nothing was ever acknowledged: an interrupted creation. */
  abandoned: string[];
}
export interface InspectionOptions {
  directory: string;
  /** Of this member, ascending. */
  known: readonly SegmentRow[];
  /** A lower bound of what was acknowledged. */
  ackedLsn: bigint;
  scan: (file: string, checkPayload: boolean) => Promise<SegmentScan>;
}

interface Found {
  info: SegmentInfo | null;
  /** Why the valid frames end before the file does, "" if they do not. */
  reason: string;
}

/** Errors: IO_ERROR, SEGMENT_VERSION (never taken for damage: a newer program wrote it). */
export async function inspectJournal(options: InspectionOptions): Promise<Inspection> {
  const { directory, known, ackedLsn, scan } = options;
  const names = (await named(readdir(directory), directory)).sort();
  const rows = new Map(known.map((row) => [row.firstLsn, row]));
  const segments: SegmentInfo[] = [];
  const runs = new Set<bigint>();
  const reasons = new Map<bigint, string>();
  const empty: { firstLsn: bigint; file: string }[] = [];
  for (const name of names) {
    const firstLsn = segmentFirstLsn(name);
    if (firstLsn === null) continue;
    const file = path.join(directory, name);
    const { info, reason } = await inspectSegment(file, rows.get(firstLsn) ?? null, scan);
    if (reason !== '') reasons.set(firstLsn, reason);
    if (info === null) empty.push({ firstLsn, file });
    else segments.push(info);
    if (names.includes(path.basename(runFile(file)))) runs.add(firstLsn);
  }
  const holes = holesBetween(required(segments, known, ackedLsn), segments, reasons);
  const last = segments.at(-1);
  const isIntact = last !== undefined && !last.sealed && !holes.some((hole) => hole.firstLsn > last.lastLsn);
  return {
    segments,
    runs,
    tail: isIntact ? last : null,
    holes,
    abandoned: empty
      .filter(({ firstLsn }) => !holes.some((hole) => hole.firstLsn <= firstLsn && firstLsn <= hole.lastLsn))
      .map(({ file }) => file),
  };
}

async function inspectSegment(
  file: string,
  row: SegmentRow | null,
  scan: InspectionOptions['scan'],
): Promise<Found> {
  // A sealed segment never changes again: its size says that it is whole, its checksums are met when it is read.
  if (row?.sealed === true && BigInt((await named(stat(file), file)).size) === row.bytes) {
    return { info: segmentInfo(row, file), reason: '' };
  }
  try {
    const { info, stopReason } = await scan(file, true);
    return { info: info.frames === 0 ? null : info, reason: stopReason };
  } catch (thrown) {
    if (!(thrown instanceof AfterimageError) || thrown.code !== 'SEGMENT_CORRUPT') throw thrown;
    return { info: null, reason: thrown.message };
  }
}

interface Range {
  firstLsn: bigint;
  lastLsn: bigint;
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

/** `ranges` less what `segments` hold, ascending, neighbours joined. */
function holesBetween(
  ranges: readonly Range[],
  segments: readonly SegmentInfo[],
  reasons: ReadonlyMap<bigint, string>,
): Hole[] {
  const missing: Range[] = [];
  for (const range of ranges) {
    let next = range.firstLsn;
    for (const { firstLsn, lastLsn } of segments) {
      if (lastLsn < next) continue;
      if (firstLsn > range.lastLsn) break;
      if (firstLsn > next) missing.push({ firstLsn: next, lastLsn: firstLsn - 1n });
      next = lastLsn + 1n;
    }
    if (next <= range.lastLsn) missing.push({ firstLsn: next, lastLsn: range.lastLsn });
  }
  missing.sort((left, right) => (left.firstLsn < right.firstLsn ? -1 : 1));
  const holes: Hole[] = [];
  for (const { firstLsn, lastLsn } of missing) {
    const last = holes.at(-1);
    if (last !== undefined && firstLsn <= last.lastLsn + 1n) {
      if (lastLsn > last.lastLsn) last.lastLsn = lastLsn;
      continue;
    }
    holes.push({ firstLsn, lastLsn, reason: reasonAt(firstLsn, reasons) });
  }
  return holes;
}

/** What the scan said of the segment in which the hole begins. */
function reasonAt(lsn: bigint, reasons: ReadonlyMap<bigint, string>): string {
  let reason = 'a segment is missing';
  for (const [firstLsn, text] of reasons) if (firstLsn <= lsn) reason = text;
  return reason;
}
