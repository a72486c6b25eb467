export class DamageTable {
    insert;
    selectAll;
    remove;
    constructor(database) {
        this.insert = database.prepare(`
      INSERT INTO damage (member, first_lsn, last_lsn, found_generation, reason)
      VALUES (@member, @firstLsn, @lastLsn, @foundGeneration, @reason)`);
        this.selectAll = database.prepare(`
      SELECT member, first_lsn AS firstLsn, last_lsn AS lastLsn, found_generation AS foundGeneration, reason
      FROM damage WHERE member = ? ORDER BY first_lsn`);
        this.remove = database.prepare('DELETE FROM damage WHERE member = ? AND found_generation < ?');
    }
    /** Ascending; no two of them overlap. */
    damage(member) {
        return this.selectAll.all(member);
    }
    /** Adds what no row names yet: the next one may begin right behind it, found later. */
    add(damage) {
        this.insert.run(damage);
    }
    /** Forgets what says nothing of `generation` and those behind it. */
    deleteBefore(member, generation) {
        this.remove.run(member, generation);
    }
}
//# sourceMappingURL=damage.js.map