export class EraTable {
    insert;
    selectAll;
    remove;
    constructor(database) {
        this.insert = database.prepare(`
      INSERT INTO eras (member, era, first_lsn, first_time_ns, previous_time_ns)
      VALUES (@member, @era, @firstLsn, @firstTimeNs, @previousTimeNs) ON CONFLICT DO NOTHING`);
        this.selectAll = database.prepare(`
      SELECT member, era, first_lsn AS firstLsn, first_time_ns AS firstTimeNs, previous_time_ns AS previousTimeNs
      FROM eras WHERE member = ? ORDER BY first_lsn, era`);
        this.remove = database.prepare(`
      DELETE FROM eras WHERE member = @member AND first_lsn <
        (SELECT max(first_lsn) FROM eras WHERE member = @member AND first_lsn <= @lsn)`);
    }
    /** In the order of their records. */
    eras(member) {
        return this.selectAll.all(member).map((row) => ({ ...row, era: Number(row.era) }));
    }
    /** A known era keeps its beginning. */
    add(era) {
        this.insert.run(era);
    }
    /** Forgets those that ended before the record `lsn`. */
    deleteBefore(member, lsn) {
        this.remove.run({ member, lsn });
    }
}
//# sourceMappingURL=eras.js.map