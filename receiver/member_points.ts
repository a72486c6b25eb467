/** Finds positions in one member's history: by LSN, by time, or the newest. */
import type { SegmentInfo } from '../native/index.js';
import type { Grade } from '../proto/control.js';
import { higher } from '../proto/watermarks.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import type { Catalog } from './catalog/catalog.js';
import type { HeldWindow } from './catalog/held_windows.js';
import type { MemberRow } from './catalog/members.js';
import type { SegmentRow } from './catalog/segments.js';
import { segmentInfo } from './journal/segment_row.js';
import { NUMBER_MAX } from './session_limits.js';
import type { Store } from './store.js';
import { beganOrdered, readHistory, spansOf, type Span } from './timeline.js';

/** A position in a member's history: (member, generation, LSN) names a state of its volumes. */
export interface MemberPosition {
  member: MemberRow;
  generation: bigint;
  lsn: bigint;
  /** Of the record at that LSN; where there is none, of the beginning of the span. */
  timeNs: bigint;
  grade: Grade;
  /** Why it is not `ordered`, "" if it is. */
  reason: string;
}

export interface MemberPointsParts {
  catalog: Catalog;
  store: Store;
  native: {
    lsnAtTime(segment: SegmentInfo, timeNs: bigint): Promise<bigint>;
    timeAtLsn(segment: SegmentInfo, lsn: bigint): Promise<bigint>;
  };
}

/** The records of one time era, from the time of its first to that of its last. */
interface EraRange {
  firstLsn: bigint;
  lastLsn: bigint;
  beginNs: bigint;
  endNs: bigint;
}

export class MemberPoints {
  constructor(private readonly parts: MemberPointsParts) {}

  /**
   * From when on there is something of it to open; null: its first sync is not complete. Only 0n is known where retention has taken
   * its beginning.
   */
  beganNs(member: MemberRow): bigint | null {
    if (this.held(member).oldestLsn > 0n) return 0n;
    const first = this.spans(member).find(({ grade }) => grade === 'ordered' || grade === 'damaged');
    return first?.beginNs ?? null;
  }

  /** The newest durable ordered LSN. Errors: POINT_UNKNOWN when there is none. */
  async latest(member: MemberRow): Promise<MemberPosition> {
    const span = this.spans(member).findLast(({ grade }) => grade === 'ordered');
    if (span === undefined) {
      throw new AfterimageError('POINT_UNKNOWN', `${member.host} has no ordered point yet`);
    }
    return this.position(member, span, span.lastLsn);
  }

  /** Errors: POINT_EXPIRED before the window, POINT_UNKNOWN for an LSN that was never received, or never used. */
  async atLsn(member: MemberRow, lsn: bigint): Promise<MemberPosition> {
    const held = this.held(member);
    if (lsn < held.oldestLsn) throw expired(`LSN ${lsn} of ${member.host}`, held);
    const history = readHistory(this.parts.catalog, member.uuid);
    const spans = spansOf(history).filter(({ grade }) => grade !== 'gap');
    const span =
      spans.find(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn) ??
      spans.find(({ firstLsn, lastLsn }) => lastLsn < firstLsn && lsn === lastLsn) ??
      // While there was no record yet this was the newest point, and somebody may have noted it.
      spans.find((each) => lsn === each.firstLsn - 1n && beganOrdered(history, each));
    if (span === undefined) {
      const last = spans.at(-1)?.lastLsn ?? 0n;
      throw new AfterimageError(
        'POINT_UNKNOWN',
        `LSN ${lsn} of ${member.host} is not in the journal, which reaches from ${spans[0]?.firstLsn ?? 0n} to ${last}`,
      );
    }
    return this.position(member, span, lsn);
  }

  /**
   * The last LSN with a time ≤ `timeNs`. Errors: POINT_EXPIRED before the window, POINT_UNKNOWN before the first record
   * or after what is known to be covered, POINT_AMBIGUOUS.
   */
  async atTime(member: MemberRow, timeNs: bigint): Promise<MemberPosition> {
    const spans = this.spans(member);
    const held = this.held(member);
    const ranges = this.ranges(member, held);
    const range = rangeAt(member, ranges, timeNs);
    const holds = ({ beginNs, endNs }: Span): boolean =>
      beginNs <= timeNs && (endNs === null || timeNs <= endNs);
    const near = range === null ? spans : spans.filter((span) => overlaps(span, range));
    const span = near.find((each) => each.grade === 'ordered' && holds(each)) ?? near.find(holds);
    if (range !== null) {
      const found = await this.lsnWithin(member, range, timeNs);
      // Between two records it is the first that counts, though the span behind begins with its time.
      const hurt = spans.find(
        ({ grade, firstLsn, lastLsn }) => grade === 'damaged' && firstLsn <= found && found <= lastLsn,
      );
      if (span?.grade === 'ordered' && span.generation === hurt?.generation) {
        return this.position(member, hurt, found);
      }
      // Times are comparable within an era only: with the clock set back, the record says where it lies.
      const own =
        span !== undefined && found <= span.lastLsn
          ? span
          : spans.find(({ firstLsn, lastLsn }) => firstLsn <= found && found <= lastLsn);
      if (own === undefined) throw outside(member, timeNs, spans, held);
      // The era may go on in the next generation: what lies behind the end of this span was lost, or never captured.
      const isBehind = own.endNs !== null && timeNs > own.endNs;
      const later = isBehind ? spans.slice(spans.indexOf(own) + 1).find(holds) : undefined;
      return this.position(member, later ?? own, found);
    }
    if (span === undefined) throw outside(member, timeNs, spans, held);
    // Behind the last record of an era: covered, lost, or a time that never was since the clock was set forward.
    const isGap = span.grade === 'gap';
    const before = ranges.findLast(
      ({ firstLsn, endNs }) => endNs < timeNs && (isGap || firstLsn <= span.lastLsn),
    );
    const found = before === undefined ? 0n : await this.lsnWithin(member, before, timeNs);
    return this.position(member, span, found);
  }

  /**
   * `last`: the last LSN at the wanted instant; of the span, but where nothing of it was there yet. The position's time
   * and, in a damaged span, the last LSN before it whose records are there.
   */
  private async position(member: MemberRow, span: Span, last: bigint): Promise<MemberPosition> {
    const { generation, grade, reason } = span;
    // A gap has no numbers of its own: what came before it.
    const wanted = grade === 'gap' ? last : higher(last, span.firstLsn - 1n);
    const row = this.parts.catalog.segments.atOrBefore(member.uuid, wanted);
    const isHeld = row !== null && wanted <= row.lastLsn;
    const lsn = grade === 'damaged' && row !== null && !isHeld ? row.lastLsn : wanted;
    const isRecord = row !== null && lsn >= row.firstLsn && lsn <= row.lastLsn;
    const timeNs = isRecord ? await this.parts.native.timeAtLsn(this.info(member, row), lsn) : span.beginNs;
    return { member, generation, lsn, timeNs, grade, reason };
  }

  private async lsnWithin(member: MemberRow, range: EraRange, timeNs: bigint): Promise<bigint> {
    const { catalog, native } = this.parts;
    const { firstLsn, lastLsn } = range;
    const row =
      catalog.segments.startedBy(member.uuid, firstLsn, lastLsn, timeNs) ??
      catalog.segments.atOrBefore(member.uuid, firstLsn);
    if (row === null) return firstLsn - 1n;
    const segment = this.info(member, row);
    if (row.firstEra === row.lastEra) return native.lsnAtTime(segment, timeNs);
    // Times rise within the era, not within the segment.
    let low = (row.firstLsn > firstLsn ? row.firstLsn : firstLsn) - 1n;
    let high = row.lastLsn < lastLsn ? row.lastLsn : lastLsn;
    while (low < high) {
      const middle = (low + high + 1n) / 2n;
      if ((await native.timeAtLsn(segment, middle)) <= timeNs) low = middle;
      else high = middle - 1n;
    }
    return low;
  }

  private spans(member: MemberRow): Span[] {
    return spansOf(readHistory(this.parts.catalog, member.uuid));
  }
  private held(member: MemberRow): HeldWindow {
    return this.parts.catalog.windows.held(member.uuid);
  }
  /** The eras, from the oldest point on. */
  private ranges(member: MemberRow, { oldestLsn, oldestTimeNs }: HeldWindow): EraRange[] {
    const { catalog } = this.parts;
    const eras = catalog.eras.eras(member.uuid);
    const last = catalog.segments.atOrBefore(member.uuid, NUMBER_MAX);
    return eras.flatMap((era, index) => {
      const next = eras[index + 1];
      if (next !== undefined && next.firstLsn <= oldestLsn) return [];
      const isLast = next === undefined && last?.lastEra === era.era;
      const isCut = era.firstLsn <= oldestLsn;
      const beginNs = isCut ? oldestTimeNs : era.firstTimeNs;
      return {
        firstLsn: isCut ? oldestLsn + 1n : era.firstLsn,
        lastLsn: next === undefined ? NUMBER_MAX : next.firstLsn - 1n,
        beginNs,
        endNs: higher(beginNs, next?.previousTimeNs ?? (isLast ? last.lastTimeNs : era.firstTimeNs)),
      };
    });
  }
  private info(member: MemberRow, row: SegmentRow): SegmentInfo {
    return segmentInfo(row, this.parts.store.segmentFile(member.group, member.uuid, row.firstLsn));
  }
}

/** The era that had a record before `timeNs` and another one at or after it, or null. Errors: POINT_AMBIGUOUS. */
function rangeAt(member: MemberRow, ranges: readonly EraRange[], timeNs: bigint): EraRange | null {
  const within = ranges.filter(({ beginNs, endNs }) => beginNs <= timeNs && timeNs <= endNs);
  if (within.length > 1) {
    throw new AfterimageError(
      'POINT_AMBIGUOUS',
      `${formatTime(timeNs)} was ${within.length} times at ${member.host}: ` +
        within.map(({ firstLsn }) => `once after LSN ${firstLsn}`).join(', '),
    );
  }
  return within[0] ?? null;
}

function overlaps({ grade, firstLsn, lastLsn }: Span, range: EraRange): boolean {
  return grade !== 'gap' && firstLsn <= range.lastLsn && lastLsn >= range.firstLsn - 1n;
}

function expired(what: string, { oldestLsn, oldestTimeNs }: HeldWindow): AfterimageError {
  return new AfterimageError(
    'POINT_EXPIRED',
    `${what} is older than what is held: the oldest point is LSN ${oldestLsn}, ${formatTime(oldestTimeNs)}`,
  );
}

function outside(
  member: MemberRow,
  timeNs: bigint,
  spans: readonly Span[],
  held: HeldWindow,
): AfterimageError {
  const begin = spans[0]?.beginNs;
  if (held.oldestLsn > 0n && timeNs < held.oldestTimeNs) {
    return expired(`${formatTime(timeNs)} at ${member.host}`, held);
  }
  const end = spans.at(-1)?.endNs;
  const known =
    begin === undefined
      ? 'nothing is known yet'
      : `what is known reaches from ${formatTime(begin)} to ${end == null ? 'now' : formatTime(end)}`;
  return new AfterimageError('POINT_UNKNOWN', `${formatTime(timeNs)} at ${member.host}: ${known}`);
}
