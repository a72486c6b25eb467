export class DoubtTable {
    upsert;
    selectAll;
    updateAll;
    constructor(database) {
        this.upsert = database.prepare(`
      INSERT INTO doubts (member, number, log_id, sequence, whole) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT (member, number) DO UPDATE SET
        log_id = excluded.log_id, sequence = excluded.sequence, whole = excluded.whole`);
        this.selectAll = database.prepare('SELECT member, number, log_id AS logId, sequence, whole FROM doubts WHERE member = ?');
        this.updateAll = database.prepare('UPDATE doubts SET whole = 1 WHERE member = ?');
    }
    /** A volume that has no row is in doubt as a whole, and no log of it was told of. */
    doubt(member, number) {
        const found = this.selectAll.all(member).find((row) => Number(row.number) === number);
        if (found === undefined)
            return { member, number, logId: 0n, sequence: 0n, whole: true };
        return { ...found, number, whole: found.whole !== 0n };
    }
    put({ member, number, logId, sequence, whole }) {
        this.upsert.run(member, number, logId, sequence, whole ? 1 : 0);
    }
    /** All volumes of the member are in doubt as a whole. */
    raise(member) {
        this.updateAll.run(member);
    }
}
//# sourceMappingURL=doubts.js.map