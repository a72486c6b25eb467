import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { NOT_COVERED } from '../catalog/members.js';
import { NUMBER_MAX } from '../session_limits.js';
import { readFrameTimes } from './frame_times.js';
import { openJournal } from './opening.js';
import { pointTiles } from './point_tiles.js';
import { segmentInfo, segmentRow } from './segment_row.js';
export class MemberJournal {
    parts;
    member;
    writer;
    /** The segment that is being written to, newer than the catalog's row. */
    active = null;
    /** Sealed segments and begun eras that the catalog does not have yet: what could not be written is not forgotten. */
    sealed = [];
    begunEras = [];
    /** Frames handed to the writer and not known to be durable, in order. */
    queued = [];
    /** Segments that were damaged since they were written, by first LSN: the catalog has what is left of them. */
    cutSegments = new Set();
    isDirty = false;
    ackedLsn;
    coverage;
    era;
    lastTimeNs;
    faultCode = null;
    constructor(parts, member, writer, last) {
        this.parts = parts;
        this.member = member;
        this.writer = writer;
        this.ackedLsn = member.ackedLsn;
        this.coverage = member.coverage;
        this.era = parts.catalog.eras.eras(member.uuid).at(-1)?.era ?? 0;
        this.lastTimeNs = last?.lastTimeNs ?? 0n;
    }
    /** As openJournal. Errors: JOURNAL_IO, STORE_INVALID, SEGMENT_VERSION. */
    static async open(parts, member) {
        const { writer, last, begun } = await openJournal(parts, member);
        const journal = new MemberJournal(parts, member, writer, last);
        if (begun !== null)
            journal.follow(begun);
        parts.runs.wake();
        return journal;
    }
    /** Why it takes nothing more for now: want of space, or of a working disk. */
    get fault() {
        return this.faultCode;
    }
    /** The durable end: `durable ≤ received` (proto/watermarks.ts). */
    get durableLsn() {
        return this.writer.position().lastLsn;
    }
    get link() {
        return this.writer.position().link;
    }
    /** Of the next frame. */
    get generation() {
        return this.writer.position().generation;
    }
    /**
     * Appends a frame; resolves with the durable LSN. `frame` begins at a multiple of 8 in memory and must not change
     * until then. A refused frame leaves the journal as it was. Errors: FRAME_*, RECORD_INVALID, JOURNAL_*.
     */
    async append(frame) {
        const times = readFrameTimes(frame);
        this.queued.push(times);
        let appended;
        try {
            appended = await this.writer.append(frame);
        }
        catch (thrown) {
            const index = this.queued.indexOf(times);
            if (index !== -1)
                this.queued.splice(index, 1);
            throw this.noted(thrown);
        }
        this.faultCode = null;
        this.follow(appended);
        return appended.durableLsn;
    }
    /** A new session goes on at the durable end. */
    resume(epoch) {
        this.writer.resume(epoch);
    }
    /** Seals the present segment and begins a generation; the catalog has it already. */
    async beginGeneration(epoch, generation, firstLsn, volumes) {
        try {
            this.follow(await this.writer.beginGeneration(epoch, generation, firstLsn, volumes));
        }
        catch (thrown) {
            throw this.noted(thrown);
        }
    }
    /** The host's clock shows `nowNs`. Was it set back, then nobody knows what the time covered before it meant. */
    noteClock(nowNs) {
        if (nowNs < this.coverage.timeNs)
            this.cover(NOT_COVERED);
    }
    /** `coverage.lsn` is durable: everything captured up to `coverage.timeNs` is in the journal. */
    noteCoverage(coverage) {
        if (coverage.lsn > NUMBER_MAX || coverage.timeNs > NUMBER_MAX) {
            throw new AfterimageError('MESSAGE_INVALID', `covered to ${coverage.timeNs}: no clock shows that`);
        }
        this.cover(coverage);
    }
    /** Brings the catalog up to date, or throws and leaves it for the next call; call it before reading positions from there, and about once a second. */
    persist() {
        if (!this.isDirty)
            return;
        const { catalog } = this.parts;
        catalog.atomically(() => {
            for (const segment of this.sealed)
                this.record(segment);
            if (this.active !== null)
                this.record(this.active);
            for (const era of this.begunEras)
                catalog.eras.add(era);
            catalog.members.advance(this.member.uuid, this.ackedLsn, this.coverage);
        });
        this.sealed = [];
        this.begunEras = [];
        this.isDirty = false;
    }
    /**
     * The segment of `row` gives no more than `left` any more, null: nothing. Whatever the writer says of it later.
     * Belongs into a transaction.
     */
    cut(row, left) {
        const { segments } = this.parts.catalog;
        this.cutSegments.add(row.firstLsn);
        if (left === null)
            segments.delete(this.member.uuid, row.firstLsn);
        else
            segments.put(segmentRow({ ...left, sealed: false }, this.member.uuid, false));
    }
    /**
     * What lies over a base that includes everything up to `baseLsn`, up to the segment that holds `lsn`. Writes nothing:
     * a full store can be read.
     */
    tiles(baseLsn, lsn) {
        return pointTiles(this.parts, this.member, this.segmentsBetween(baseLsn, lsn));
    }
    /** The time of the record with this LSN; null when there is none. Errors: SEGMENT_CORRUPT, IO_ERROR. */
    async timeAt(lsn) {
        const row = this.segmentsBetween(lsn - 1n, lsn).at(-1);
        if (row === undefined || row.lastLsn < lsn)
            return null;
        const file = this.parts.store.segmentFile(this.member.group, this.member.uuid, row.firstLsn);
        return this.parts.native.timeAtLsn(segmentInfo(row, file), lsn);
    }
    /** Completes what was queued and writes the catalog. */
    async close() {
        await this.writer.close();
        this.persist();
    }
    noted(thrown) {
        const error = toAfterimageError(thrown);
        if (error.code === 'JOURNAL_FULL' || error.code === 'JOURNAL_IO')
            this.faultCode = error.code;
        return error;
    }
    follow({ durableLsn, changed }) {
        this.ackedLsn = durableLsn;
        this.isDirty = true;
        const sealed = changed.filter((segment) => segment.sealed);
        this.active = changed.find((segment) => !segment.sealed) ?? (sealed.length > 0 ? null : this.active);
        this.sealed.push(...sealed);
        this.followEras(durableLsn);
        // An era before the acknowledgement of any of its frames.
        if (this.sealed.length + this.begunEras.length > 0)
            this.persist();
        if (sealed.length > 0)
            this.parts.runs.wake();
    }
    /** One answer covers all frames of a group commit: their eras are recorded with it. */
    followEras(durableLsn) {
        for (let [times] = this.queued; times !== undefined && times.lastLsn <= durableLsn; [times] = this.queued) {
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
    cover(coverage) {
        this.coverage = coverage;
        this.isDirty = true;
    }
    /** Those with records in (afterLsn, lsn], ascending: as the catalog has them, or newer. */
    segmentsBetween(afterLsn, lsn) {
        const { uuid } = this.member;
        const found = this.parts.catalog.segments.between(uuid, afterLsn, lsn);
        if (!this.isDirty)
            return found;
        const rows = new Map(found.map((row) => [row.firstLsn, row]));
        for (const segment of this.active === null ? this.sealed : [...this.sealed, this.active]) {
            if (segment.lastLsn <= afterLsn || segment.firstLsn > lsn || this.cutSegments.has(segment.firstLsn))
                continue;
            rows.set(segment.firstLsn, segmentRow(segment, uuid, false));
        }
        return [...rows.values()].sort((left, right) => (left.firstLsn < right.firstLsn ? -1 : 1));
    }
    record(segment) {
        if (this.cutSegments.has(segment.firstLsn))
            return;
        this.parts.catalog.segments.put(segmentRow(segment, this.member.uuid, false));
    }
}
//# sourceMappingURL=journal.js.map