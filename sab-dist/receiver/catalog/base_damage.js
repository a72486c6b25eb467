export class BaseDamageTable {
    insert;
    deleteOld;
    selectAll;
    constructor(database) {
        this.insert = database.prepare(`
      INSERT INTO base_damage (member, number, first_lsn, last_lsn, last_time_ns, found_generation, reason)
      VALUES (@member, @number, @firstLsn, @lastLsn, @lastTimeNs, @foundGeneration, @reason)`);
        this.deleteOld = database.prepare(`
      DELETE FROM base_damage WHERE member = ? AND
        CASE WHEN last_lsn IS NULL THEN found_generation < ? ELSE last_lsn < ? END`);
        this.selectAll = database.prepare(`
      SELECT member, number, first_lsn AS firstLsn, last_lsn AS lastLsn, last_time_ns AS lastTimeNs,
        found_generation AS foundGeneration, reason
      FROM base_damage WHERE member = ? ORDER BY found_generation, number, first_lsn`);
    }
    damage(member) {
        return this.selectAll.all(member).map((row) => ({ ...row, number: Number(row.number) }));
    }
    /** Forgets what only instants before `lsn`, a record of `generation`, need. */
    deleteBefore(member, lsn, generation) {
        this.deleteOld.run(member, generation, lsn);
    }
    add(damage) {
        this.insert.run(damage);
    }
}
//# sourceMappingURL=base_damage.js.map