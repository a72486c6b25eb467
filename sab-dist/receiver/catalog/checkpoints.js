const COLUMNS = `group_uuid AS "group", name, member, lsn, time_ns AS timeNs, consistency, pinned`;
export class CheckpointTable {
    insert;
    selectAll;
    selectOne;
    selectPinned;
    selectBefore;
    updatePinned;
    remove;
    constructor(database) {
        this.insert = database.prepare(`
      INSERT INTO checkpoints (group_uuid, name, member, lsn, time_ns, consistency, pinned)
      VALUES (@group, @name, @member, @lsn, @timeNs, @consistency, @pinned)`);
        this.selectAll = database.prepare(`SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? ORDER BY time_ns, lsn, name`);
        this.selectOne = database.prepare(`SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? AND name = ?`);
        this.selectPinned = database.prepare(`
      SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? AND pinned = 1 ORDER BY time_ns, lsn, name`);
        this.selectBefore = database.prepare(`SELECT ${COLUMNS} FROM checkpoints WHERE member = ? AND lsn < ? ORDER BY lsn, name`);
        this.updatePinned = database.prepare('UPDATE checkpoints SET pinned = ? WHERE group_uuid = ? AND name = ?');
        this.remove = database.prepare('DELETE FROM checkpoints WHERE group_uuid = ? AND name = ?');
    }
    /** Of one group, by time. */
    checkpoints(group) {
        return this.selectAll.all(group).map(fromStored);
    }
    /** Those of one group that are pinned, by time. */
    pinned(group) {
        return this.selectPinned.all(group).map(fromStored);
    }
    /** Those of a member's LSNs below `lsn`. */
    before(member, lsn) {
        return this.selectBefore.all(member, lsn).map(fromStored);
    }
    checkpoint(group, name) {
        const row = this.selectOne.get(group, name);
        return row === undefined ? null : fromStored(row);
    }
    add(checkpoint) {
        this.insert.run({ ...checkpoint, pinned: checkpoint.pinned ? 1n : 0n });
    }
    setPinned(group, name, pinned) {
        this.updatePinned.run(pinned ? 1n : 0n, group, name);
    }
    delete(group, name) {
        this.remove.run(group, name);
    }
}
function fromStored(row) {
    return { ...row, pinned: row.pinned === 1n };
}
//# sourceMappingURL=checkpoints.js.map