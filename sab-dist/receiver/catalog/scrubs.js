export class ScrubTable {
    upsert;
    select;
    constructor(database) {
        this.upsert = database.prepare(`
      INSERT OR REPLACE INTO scrubs (member, finished_ns, bytes, damaged)
      VALUES (@member, @finishedNs, @bytes, @damaged)`);
        this.select = database.prepare('SELECT member, finished_ns AS finishedNs, bytes, damaged FROM scrubs WHERE member = ?');
    }
    /** Null: never. */
    last(member) {
        return this.select.get(member) ?? null;
    }
    put(scrub) {
        this.upsert.run(scrub);
    }
}
//# sourceMappingURL=scrubs.js.map