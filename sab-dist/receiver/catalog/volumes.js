const COLUMNS = `member, number, uuid, name, size, block_size AS blockSize, base_state AS baseState,
  base_lsn AS baseLsn, sync_offset AS syncOffset`;
export class VolumeTable {
    upsert;
    selectAll;
    selectByUuid;
    updateBaseLsn;
    updateBase;
    constructor(database) {
        this.upsert = database.prepare(`
      INSERT INTO volumes (member, number, uuid, name, size, block_size, base_state, base_lsn, sync_offset)
      VALUES (@member, @number, @uuid, @name, @size, @blockSize, @baseState, @baseLsn, @syncOffset)
      ON CONFLICT (member, number) DO UPDATE SET name = excluded.name`);
        this.selectAll = database.prepare(`SELECT ${COLUMNS} FROM volumes WHERE member = ? ORDER BY number`);
        this.selectByUuid = database.prepare(`SELECT ${COLUMNS} FROM volumes WHERE uuid = ?`);
        this.updateBaseLsn = database.prepare('UPDATE volumes SET base_lsn = max(base_lsn, ?) WHERE member = ? AND number = ?');
        this.updateBase = database.prepare('UPDATE volumes SET base_state = ?, base_lsn = ?, sync_offset = ? WHERE member = ? AND number = ?');
    }
    volumes(member) {
        return this.selectAll.all(member).map(fromStored);
    }
    volumeWithUuid(uuid) {
        const row = this.selectByUuid.get(uuid);
        return row === undefined ? null : fromStored(row);
    }
    /** Adds a volume; of a known one only the name may change. */
    put(volume) {
        this.upsert.run(volume);
    }
    /** The base includes everything up to `lsn`. */
    raiseBase(member, number, lsn) {
        this.updateBaseLsn.run(lsn, member, number);
    }
    setBase(member, number, base, baseLsn, syncOffset) {
        this.updateBase.run(base, baseLsn, syncOffset, member, number);
    }
}
function fromStored(row) {
    return { ...row, number: Number(row.number), blockSize: Number(row.blockSize) };
}
//# sourceMappingURL=volumes.js.map