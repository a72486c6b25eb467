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

const { EIO, ENOENT } = constants.errno;

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
   * Likewise beyond, but the disk does not give them, or they are of another journal: they may hold the frames of the last
   * second, which only the agent knows to be acknowledged.
   */
  unreadable: string[];
}
export interface InspectionOptions {
  directory: string;
  /** Whose journal it is; a segment of another one in it is damage. */
  identity: JournalIdentity;
  /** Of this member, ascending. */
  known: readonly SegmentRow[];
  /** A lower bound of what was acknowledged: no record up to there may be missing. */
  ackedLsn: bigint;
  /** Segments up to there are in the bases: what a crash has left of them means nothing. */
  droppedLsn: bigint;
  /** Every number up to there has been given away, in whichever generation. */
  usedLsn: bigint;
  scan: (file: string, checkPayload: boolean) => Promise<SegmentScan>;
  isRunOf: (segment: SegmentInfo, runFile: string) => Promise<boolean>;
}

/** UUIDs of a journal's group and member, 16 bytes each. */
export interface JournalIdentity {
  group: Buffer;
  member: Buffer;
}

/** What one segment gives. */
export interface SegmentReading {
  /** Up to its last valid frame; null: it has none, or is not of this journal. */
  info: SegmentInfo | null;
  /** Why the valid frames end before the file does, "" if they do not. */
  reason: string;
  /** What it holds may be wanted: the disk does not give it, or it is somebody else's. Never to be removed. */
  isKept: boolean;
  /** What its first frame follows; null: it was not read. */
  firstLink: number | null;
}
export interface FoundSegment extends SegmentReading {
  /** By its name. */
  firstLsn: bigint;
  file: string;
  /** Null: there is none. */
  run: string | null;
  /** The run is whole and of this very segment. */
  hasRun: boolean;
}

/** Errors: IO_ERROR, SEGMENT_VERSION (never taken for damage: a newer program wrote it). */
export async function inspectJournal(options: InspectionOptions): Promise<Inspection> {
  return inspectionOf(await findSegments(options), options);
}

/** Every segment of the directory, ascending. Errors: as inspectJournal. */
export async function findSegments(
  options: Omit<InspectionOptions, 'ackedLsn' | 'usedLsn'>,
): Promise<FoundSegment[]> {
  const { directory, known, droppedLsn } = options;
  const names = new Set((await named(readdir(directory), directory)).sort());
  const rows = new Map(known.map((row) => [row.firstLsn, row]));
  const found: FoundSegment[] = [];
  let before: SegmentInfo | null = null;
  for (const name of names) {
    const firstLsn = segmentFirstLsn(name);
    if (firstLsn === null || firstLsn <= droppedLsn) continue;
    const file = path.join(directory, name);
    const run = names.has(path.basename(runFile(file))) ? runFile(file) : null;
    const reading: Omit<FoundSegment, 'firstLsn' | 'file' | 'run'> = continuing(
      before,
      await inspectSegment(file, run, rows.get(firstLsn) ?? null, options),
    );
    found.push({ firstLsn, file, run, ...reading });
    before = reading.info ?? before;
  }
  return found;
}

/** A segment that stands where the one before it ends must follow that one's last frame: else it is of another history. */
function continuing<T extends SegmentReading>(before: SegmentInfo | null, reading: T): T {
  const { info, firstLink } = reading;
  if (before === null || info === null || firstLink === null) return reading;
  const isNext = before.generation === info.generation && before.lastLsn + 1n === info.firstLsn;
  if (!isNext || before.link === firstLink) return reading;
  const reason = `FRAME_LINK: the segment does not follow the one before it, ${before.firstLsn}`;
  return { ...reading, info: null, reason, isKept: true, hasRun: false };
}

/** What the segments found, and the catalog, say of the journal as a whole. */
export function inspectionOf(
  found: readonly FoundSegment[],
  { known, ackedLsn, usedLsn }: Pick<InspectionOptions, 'known' | 'ackedLsn' | 'usedLsn'>,
): Inspection {
  const segments = found.flatMap(({ info }) => (info === null ? [] : [info]));
  const runs = new Set(found.flatMap(({ firstLsn, hasRun }) => (hasRun ? [firstLsn] : [])));
  const reasons = new Map(
    found.flatMap(({ firstLsn, reason }) => (reason === '' ? [] : [[firstLsn, reason]])),
  );
  const empty = found.filter(({ info }) => info === null);
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
    abandoned: beyond.filter(({ isKept }) => !isKept).map(({ file }) => file),
    unreadable: beyond.filter(({ isKept }) => isKept).map(({ file }) => file),
  };
}

async function inspectSegment(
  file: string,
  run: string | null,
  row: SegmentRow | null,
  { identity, scan, isRunOf }: Pick<InspectionOptions, 'identity' | 'scan' | 'isRunOf'>,
): Promise<SegmentReading & Pick<FoundSegment, 'hasRun'>> {
  const isIts = async (info: SegmentInfo): Promise<boolean> => run !== null && (await isRunOf(info, run));
  // A sealed segment never changes again: its size says that it is whole, and a run that it was read in full. Damage
  // since then is met when it is read (damage_watch.ts).
  if (row?.sealed === true && BigInt((await named(stat(file), file)).size) === row.bytes) {
    const info = segmentInfo(row, file);
    if (await isIts(info)) return { info, reason: '', isKept: false, firstLink: null, hasRun: true };
  }
  const reading = await readSegment(file, identity, scan);
  const { info } = reading;
  return { ...reading, hasRun: info?.sealed === true && (await isIts(info)) };
}

/** A segment up to its last valid frame, read in full. Errors: as inspectJournal. */
export async function readSegment(
  file: string,
  { group, member }: JournalIdentity,
  scan: InspectionOptions['scan'],
): Promise<SegmentReading> {
  try {
    const { info, stopReason, firstLink, ...owner } = await scan(file, true);
    if (!owner.group.equals(group) || !owner.member.equals(member)) {
      return { info: null, reason: 'FRAME_FOREIGN: a segment of another member', isKept: true, firstLink };
    }
    if (info.firstLsn !== segmentFirstLsn(path.basename(file))) {
      const reason = `FRAME_GAP: the segment of LSN ${info.firstLsn}, under another name`;
      return { info: null, reason, isKept: true, firstLink };
    }
    return { info: info.frames === 0 ? null : info, reason: stopReason, isKept: false, firstLink };
  } catch (thrown) {
    if (!isDamage(thrown)) throw thrown;
    const directory = path.dirname(file);
    // Without it, as when another disk is mounted there, nothing is known of any segment.
    await named(stat(directory), directory);
    const { code, message } = toAfterimageError(thrown);
    return { info: null, reason: message, isKept: code !== 'SEGMENT_CORRUPT', firstLink: null };
  }
}

/**
 * Whether an error says that the medium does not give what was written: EIO too, after all that the kernel tried, and a
 * file that is not there. Only the catalog can say that it should be.
 */
export function isDamage(thrown: unknown): boolean {
  const { code, cause } = toAfterimageError(thrown);
  const errno = (cause as { errno?: unknown })?.errno;
  return code === 'SEGMENT_CORRUPT' || (code === 'IO_ERROR' && (errno === EIO || errno === ENOENT));
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
