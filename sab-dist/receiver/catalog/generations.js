const COLUMNS = `member, generation, first_lsn AS firstLsn, last_lsn AS lastLsn, begin_ns AS beginNs,
  end_ns AS endNs, reason, end_reason AS endReason`;
const VOLUME_COLUMNS = 'member, generation, number, size, ordered_lsn AS orderedLsn, ordered_time_ns AS orderedTimeNs';
export class GenerationTable {
    insert;
    insertVolume;
    selectAll;
    selectNewest;
    selectVolumes;
    removeVolumes;
    remove;
    updateEnd;
    updateOrdered;
    constructor(database) {
        this.insert = database.prepare(`
      INSERT INTO generations (member, generation, first_lsn, last_lsn, begin_ns, end_ns, reason, end_reason)
      VALUES (@member, @generation, @firstLsn, @lastLsn, @beginNs, @endNs, @reason, @endReason)`);
        this.insertVolume = database.prepare(`
      INSERT INTO generation_volumes (member, generation, number, size, ordered_lsn, ordered_time_ns)
      VALUES (@member, @generation, @number, @size, @orderedLsn, @orderedTimeNs)`);
        this.selectAll = database.prepare(`SELECT ${COLUMNS} FROM generations WHERE member = ? ORDER BY generation`);
        this.selectNewest = database.prepare(`SELECT ${COLUMNS} FROM generations WHERE member = ? ORDER BY generation DESC LIMIT 1`);
        this.selectVolumes = database.prepare(`
      SELECT ${VOLUME_COLUMNS} FROM generation_volumes WHERE member = ? AND generation = ? ORDER BY number`);
        this.removeVolumes = database.prepare('DELETE FROM generation_volumes WHERE member = ? AND generation < ?');
        this.remove = database.prepare('DELETE FROM generations WHERE member = ? AND generation < ?');
        this.updateEnd = database.prepare(`
      UPDATE generations SET last_lsn = ?, end_ns = ?, end_reason = ?
      WHERE member = ? AND generation = ? AND last_lsn IS NULL`);
        this.updateOrdered = database.prepare(`
      UPDATE generation_volumes SET ordered_lsn = ?, ordered_time_ns = ?
      WHERE member = ? AND generation = ? AND number = ?`);
    }
    /** Ascending. */
    generations(member) {
        return this.selectAll.all(member);
    }
    newest(member) {
        return this.selectNewest.get(member) ?? null;
    }
    volumes(member, generation) {
        return this.selectVolumes.all(member, generation).map((row) => ({ ...row, number: Number(row.number) }));
    }
    begin(generation, volumes) {
        this.insert.run(generation);
        for (const volume of volumes)
            this.insertVolume.run(volume);
    }
    /** Forgets those before `generation`. */
    deleteBefore(member, generation) {
        this.removeVolumes.run(member, generation);
        this.remove.run(member, generation);
    }
    /** A generation ends once: a second end changes nothing. */
    end(member, generation, lastLsn, endNs, reason) {
        this.updateEnd.run(lastLsn, endNs, reason, member, generation);
    }
    setOrdered(member, generation, number, lsn, timeNs) {
        this.updateOrdered.run(lsn, timeNs, member, generation, number);
    }
}
//# sourceMappingURL=generations.js.map