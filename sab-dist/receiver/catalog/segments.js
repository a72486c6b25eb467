import { NUMBER_MAX } from '../session_limits.js';
const COLUMNS = `member, generation, first_lsn AS firstLsn, last_lsn AS lastLsn, first_time_ns AS firstTimeNs,
  last_time_ns AS lastTimeNs, first_era AS firstEra, last_era AS lastEra, frames, records, raw_bytes AS rawBytes,
  bytes, link, sealed, has_run AS hasRun`;
export class SegmentTable {
    upsert;
    remove;
    selectAll;
    selectRange;
    selectAt;
    selectFrom;
    selectAtTime;
    selectWithoutRun;
    updateRun;
    selectTotals;
    updateAges;
    selectAges;
    removeUpTo;
    constructor(database) {
        this.upsert = database.prepare(`
      INSERT INTO segments (member, generation, first_lsn, last_lsn, first_time_ns, last_time_ns, first_era,
        last_era, frames, records, raw_bytes, bytes, link, sealed, has_run)
      VALUES (@member, @generation, @firstLsn, @lastLsn, @firstTimeNs, @lastTimeNs, @firstEra, @lastEra, @frames,
        @records, @rawBytes, @bytes, @link, @sealed, @hasRun)
      ON CONFLICT (member, first_lsn) DO UPDATE SET generation = excluded.generation, last_lsn = excluded.last_lsn,
        first_time_ns = excluded.first_time_ns, last_time_ns = excluded.last_time_ns, first_era = excluded.first_era,
        last_era = excluded.last_era, frames = excluded.frames, records = excluded.records,
        raw_bytes = excluded.raw_bytes, bytes = excluded.bytes, link = excluded.link, sealed = excluded.sealed,
        has_run = excluded.has_run`);
        this.remove = database.prepare('DELETE FROM segments WHERE member = ? AND first_lsn = ?');
        this.selectAll = database.prepare(`SELECT ${COLUMNS} FROM segments WHERE member = ? ORDER BY first_lsn`);
        this.selectRange = database.prepare(`
      SELECT ${COLUMNS} FROM segments WHERE member = ? AND last_lsn > ? AND first_lsn <= ? ORDER BY first_lsn`);
        this.selectAt = database.prepare(`
      SELECT ${COLUMNS} FROM segments WHERE member = ? AND first_lsn <= ? ORDER BY first_lsn DESC LIMIT 1`);
        this.selectFrom = database.prepare(`
      SELECT ${COLUMNS} FROM segments WHERE member = ? AND first_lsn >= ? ORDER BY first_lsn LIMIT 1`);
        this.selectAtTime = database.prepare(`
      SELECT ${COLUMNS} FROM segments WHERE member = ? AND last_lsn >= ? AND first_lsn <= ? AND first_time_ns <= ?
      ORDER BY first_lsn DESC LIMIT 1`);
        this.selectWithoutRun = database.prepare(`
      SELECT ${COLUMNS} FROM segments WHERE sealed = 1 AND has_run = 0 ORDER BY member, first_lsn LIMIT ?`);
        this.updateRun = database.prepare('UPDATE segments SET has_run = ? WHERE member = ? AND first_lsn = ?');
        this.selectTotals = database.prepare('SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(records), 0) AS records FROM segments WHERE member = ?');
        this.updateAges = database.prepare(`
      UPDATE segments SET aged_from_ns = ? WHERE aged_from_ns IS NULL AND (sealed = 1 OR first_lsn <
        (SELECT max(first_lsn) FROM segments AS other WHERE other.member = segments.member))`);
        this.selectAges = database.prepare(`
      SELECT first_lsn AS firstLsn, last_lsn AS lastLsn, last_time_ns AS lastTimeNs, bytes, raw_bytes AS rawBytes,
        aged_from_ns AS agedFromNs FROM segments WHERE member = ? ORDER BY first_lsn LIMIT ?`);
        this.removeUpTo = database.prepare('DELETE FROM segments WHERE member = ? AND first_lsn <= ?');
    }
    /** All of them, ascending. */
    segments(member) {
        return this.selectAll.all(member).map(fromStored);
    }
    /** Those with records in (afterLsn, lsn], ascending. */
    between(member, afterLsn, lsn) {
        return this.selectRange.all(member, afterLsn, lsn).map(fromStored);
    }
    /** The one whose records include `lsn`, or the last one before it; null when there is none. */
    atOrBefore(member, lsn) {
        const row = this.selectAt.get(member, lsn);
        return row === undefined ? null : fromStored(row);
    }
    last(member) {
        return this.atOrBefore(member, NUMBER_MAX);
    }
    /** The first one that begins at or after `lsn`; null when there is none. */
    atOrAfter(member, lsn) {
        const row = this.selectFrom.get(member, lsn);
        return row === undefined ? null : fromStored(row);
    }
    /** The last one with records in [firstLsn, lastLsn] that begins at or before `timeNs`, or null. */
    startedBy(member, firstLsn, lastLsn, timeNs) {
        const row = this.selectAtTime.get(member, firstLsn, lastLsn, timeNs);
        return row === undefined ? null : fromStored(row);
    }
    /** Sealed segments of any member that have no run yet, at most `count`. */
    withoutRun(count) {
        return this.selectWithoutRun.all(BigInt(count)).map(fromStored);
    }
    put(segment) {
        this.upsert.run({
            ...segment,
            firstEra: BigInt(segment.firstEra),
            lastEra: BigInt(segment.lastEra),
            frames: BigInt(segment.frames),
            link: BigInt(segment.link),
            sealed: segment.sealed ? 1n : 0n,
            hasRun: segment.hasRun ? 1n : 0n,
        });
    }
    /** Forgets one that held nothing. */
    delete(member, firstLsn) {
        this.remove.run(member, firstLsn);
    }
    setRun(member, firstLsn, hasRun) {
        this.updateRun.run(hasRun ? 1n : 0n, member, firstLsn);
    }
    /** Segments that take no more records, and have no age yet, begin to age at the running time `elapsedNs`. */
    beginAging(elapsedNs) {
        this.updateAges.run(elapsedNs);
    }
    /** The oldest ones, at most `count`, ascending. */
    oldest(member, count) {
        return this.selectAges.all(member, BigInt(count));
    }
    /** Forgets all that begin at or before `lsn`. */
    deleteUpTo(member, lsn) {
        this.removeUpTo.run(member, lsn);
    }
    totals(member) {
        return this.selectTotals.get(member) ?? { bytes: 0n, records: 0n };
    }
}
function fromStored(row) {
    return {
        ...row,
        firstEra: Number(row.firstEra),
        lastEra: Number(row.lastEra),
        frames: Number(row.frames),
        link: Number(row.link),
        sealed: row.sealed === 1n,
        hasRun: row.hasRun === 1n,
    };
}
//# sourceMappingURL=segments.js.map