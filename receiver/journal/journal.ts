/**
 * One member's journal: the native writer, and the catalog that follows it. Frames become durable in the writer; the
 * catalog learns of sealed segments at once and of the growing one about once a second (persist()).
 */
import type { Appended, JournalWriter, PointTile, SegmentInfo, SegmentVolume } from '../../native/index.js';
import { AfterimageError, toAfterimageError, type ErrorCode } from '../../proto/errors.js';
import type { EraRow } from '../catalog/eras.js';
import { NOT_COVERED, type Coverage, type MemberRow } from '../catalog/members.js';
import { NUMBER_MAX } from '../session_limits.js';
import type { SegmentRow } from '../catalog/segments.js';
import { readFrameTimes, type FrameTimes } from './frame_times.js';
import { openJournal, type OpeningParts } from './opening.js';
import { pointTiles } from './point_tiles.js';
import type { RunBuilds } from './runs.js';
import { segmentInfo, segmentRow } from './segment_row.js';

export interface JournalParts extends OpeningParts {
  runs: RunBuilds;
}

export class MemberJournal {
  /** The segment that is being written to, newer than the catalog's row. */
  private active: SegmentInfo | null = null;
  /** Sealed segments and begun eras that the catalog does not have yet: what could not be written is not forgotten. */
  private sealed: SegmentInfo[] = [];
  private begunEras: EraRow[] = [];
  /** Frames handed to the writer and not known to be durable, in order. */
  private readonly queued: FrameTimes[] = [];
  /** Segments that were damaged since they were written, by first LSN: the catalog has what is left of them. */
  private readonly cutSegments = new Set<bigint>();
  private isDirty = false;
  private ackedLsn: bigint;
  private coverage: Coverage;
  private era: number;
  private lastTimeNs: bigint;
  private faultCode: ErrorCode | null = null;

  private constructor(
    private readonly parts: JournalParts,
    readonly member: MemberRow,
    private readonly writer: JournalWriter,
    last: SegmentInfo | null,
  ) {
    this.ackedLsn = member.ackedLsn;
    this.coverage = member.coverage;
    this.era = parts.catalog.eras.eras(member.uuid).at(-1)?.era ?? 0;
    this.lastTimeNs = last?.lastTimeNs ?? 0n;
  }

  /** As openJournal. Errors: JOURNAL_IO, STORE_INVALID, SEGMENT_VERSION. */
  static async open(parts: JournalParts, member: MemberRow): Promise<MemberJournal> {
    const { writer, last, begun } = await openJournal(parts, member);
    const journal = new MemberJournal(parts, member, writer, last);
    if (begun !== null) journal.follow(begun);
    parts.runs.wake();
    return journal;
  }

  /** Why it takes nothing more for now: want of space, or of a working disk. */
  get fault(): ErrorCode | null {
    return this.faultCode;
  }
  /** The durable end: `durable ≤ received` (proto/watermarks.ts). */
  get durableLsn(): bigint {
    return this.writer.position().lastLsn;
  }
  get link(): number {
    return this.writer.position().link;
  }
  /** Of the next frame. */
  get generation(): bigint {
    return this.writer.position().generation;
  }

  /**
   * Appends a frame; resolves with the durable LSN. `frame` begins at a multiple of 8 in memory and must not change
   * until then. A refused frame leaves the journal as it was. Errors: FRAME_*, RECORD_INVALID, JOURNAL_*.
   */
  async append(frame: Buffer): Promise<bigint> {
    const times = readFrameTimes(frame);
    this.queued.push(times);
    let appended: Appended;
    try {
      appended = await this.writer.append(frame);
    } catch (thrown) {
      const index = this.queued.indexOf(times);
      if (index !== -1) this.queued.splice(index, 1);
      throw this.noted(thrown);
    }
    this.faultCode = null;
    this.follow(appended);
    return appended.durableLsn;
  }

  /** A new session goes on at the durable end. */
  resume(epoch: bigint): void {
    this.writer.resume(epoch);
  }

  /** Seals the present segment and begins a generation; the catalog has it already. */
  async beginGeneration(
    epoch: bigint,
    generation: bigint,
    firstLsn: bigint,
    volumes: SegmentVolume[],
  ): Promise<void> {
    try {
      this.follow(await this.writer.beginGeneration(epoch, generation, firstLsn, volumes));
    } catch (thrown) {
      throw this.noted(thrown);
    }
  }

  /** The host's clock shows `nowNs`. Was it set back, then nobody knows what the time covered before it meant. */
  noteClock(nowNs: bigint): void {
    if (nowNs < this.coverage.timeNs) this.cover(NOT_COVERED);
  }
  /** `coverage.lsn` is durable: everything captured up to `coverage.timeNs` is in the journal. */
  noteCoverage(coverage: Coverage): void {
    if (coverage.lsn > NUMBER_MAX || coverage.timeNs > NUMBER_MAX) {
      throw new AfterimageError('MESSAGE_INVALID', `covered to ${coverage.timeNs}: no clock shows that`);
    }
    this.cover(coverage);
  }

  /** Brings the catalog up to date, or throws and leaves it for the next call; call it before reading positions from there, and about once a second. */
  persist(): void {
    if (!this.isDirty) return;
    const { catalog } = this.parts;
    catalog.atomically(() => {
      for (const segment of this.sealed) this.record(segment);
      if (this.active !== null) this.record(this.active);
      for (const era of this.begunEras) catalog.eras.add(era);
      catalog.members.advance(this.member.uuid, this.ackedLsn, this.coverage);
    });
    this.sealed = [];
    this.begunEras = [];
    this.isDirty = false;
  }

  /**
   * The segment of `row` gives no more than `left` any more, null: nothing. Whatever the writer says of it later. In one
   * transaction with `record`, which says so in the catalog.
   */
  cut(row: SegmentRow, left: SegmentInfo | null, record: () => void): void {
    const { catalog } = this.parts;
    catalog.atomically(() => {
      record();
      if (left === null) catalog.segments.delete(this.member.uuid, row.firstLsn);
      else catalog.segments.put(segmentRow({ ...left, sealed: false }, this.member.uuid, false));
    });
    // Only now: were the catalog rolled back, it would not hear of what comes next.
    this.cutSegments.add(row.firstLsn);
  }

  /**
   * What lies over a base that includes everything up to `baseLsn`, up to the segment that holds `lsn`. Writes nothing:
   * a full store can be read.
   */
  tiles(baseLsn: bigint, lsn: bigint): PointTile[] {
    return pointTiles(this.parts, this.member, this.segmentsBetween(baseLsn, lsn));
  }

  /** The time of the record with this LSN; null when there is none. Errors: SEGMENT_CORRUPT, IO_ERROR. */
  async timeAt(lsn: bigint): Promise<bigint | null> {
    const row = this.segmentsBetween(lsn - 1n, lsn).at(-1);
    if (row === undefined || row.lastLsn < lsn) return null;
    const file = this.parts.store.segmentFile(this.member.group, this.member.uuid, row.firstLsn);
    return this.parts.native.timeAtLsn(segmentInfo(row, file), lsn);
  }

  /** Completes what was queued and writes the catalog. */
  async close(): Promise<void> {
    await this.writer.close();
    this.persist();
  }

  private noted(thrown: unknown): AfterimageError {
    const error = toAfterimageError(thrown);
    if (error.code === 'JOURNAL_FULL' || error.code === 'JOURNAL_IO') this.faultCode = error.code;
    return error;
  }

  private follow({ durableLsn, changed }: Appended): void {
    this.ackedLsn = durableLsn;
    this.isDirty = true;
    const sealed = changed.filter((segment) => segment.sealed);
    this.active = changed.find((segment) => !segment.sealed) ?? (sealed.length > 0 ? null : this.active);
    this.sealed.push(...sealed);
    this.followEras(durableLsn);
    // An era before the acknowledgement of any of its frames.
    if (this.sealed.length + this.begunEras.length > 0) this.persist();
    if (sealed.length > 0) this.parts.runs.wake();
  }

  /** One answer covers all frames of a group commit: their eras are recorded with it. */
  private followEras(durableLsn: bigint): void {
    for (
      let [times] = this.queued;
      times !== undefined && times.lastLsn <= durableLsn;
      [times] = this.queued
    ) {
      this.queued.shift();
      if (times.era !== this.era) {
        this.begunEras.push({
          member: this.member.uuid,
          era: times.era,
          firstLsn: times.firstLsn,
          firstTimeNs: times.firstTimeNs,
          previousTimeNs: this.lastTimeNs,
        });
        this.era = times.era;
      }
      this.lastTimeNs = times.lastTimeNs;
    }
  }

  private cover(coverage: Coverage): void {
    this.coverage = coverage;
    this.isDirty = true;
  }

  /** Those with records in (afterLsn, lsn], ascending: as the catalog has them, or newer. */
  private segmentsBetween(afterLsn: bigint, lsn: bigint): SegmentRow[] {
    const { uuid } = this.member;
    const found = this.parts.catalog.segments.between(uuid, afterLsn, lsn);
    if (!this.isDirty) return found;
    const rows = new Map(found.map((row) => [row.firstLsn, row]));
    for (const segment of this.active === null ? this.sealed : [...this.sealed, this.active]) {
      if (segment.lastLsn <= afterLsn || segment.firstLsn > lsn || this.cutSegments.has(segment.firstLsn))
        continue;
      rows.set(segment.firstLsn, segmentRow(segment, uuid, false));
    }
    return [...rows.values()].sort((left, right) => (left.firstLsn < right.firstLsn ? -1 : 1));
  }

  private record(segment: SegmentInfo): void {
    if (this.cutSegments.has(segment.firstLsn)) return;
    this.parts.catalog.segments.put(segmentRow(segment, this.member.uuid, false));
  }
}
