export const WHOLE = { oldestLsn: 0n, oldestTimeNs: 0n, droppedLsn: 0n };
export class HeldWindowTable {
    select;
    upsert;
    selectElapsed;
    updateElapsed;
    constructor(database) {
        this.select = database.prepare(`
      SELECT oldest_lsn AS oldestLsn, oldest_time_ns AS oldestTimeNs, dropped_lsn AS droppedLsn
      FROM held_windows WHERE member = ?`);
        this.upsert = database.prepare(`
      INSERT INTO held_windows (member, oldest_lsn, oldest_time_ns, dropped_lsn)
      VALUES (@member, @oldestLsn, @oldestTimeNs, @droppedLsn)
      ON CONFLICT (member) DO UPDATE SET oldest_lsn = excluded.oldest_lsn,
        oldest_time_ns = excluded.oldest_time_ns, dropped_lsn = excluded.dropped_lsn`);
        this.selectElapsed = database.prepare('SELECT elapsed_ns AS elapsedNs FROM running_time');
        this.updateElapsed = database.prepare('UPDATE running_time SET elapsed_ns = max(elapsed_ns, ?)');
    }
    held(member) {
        return this.select.get(member) ?? WHOLE;
    }
    put(member, window) {
        this.upsert.run({ member, ...window });
    }
    /** How long receivers have run on this store, as far as it was written down. */
    elapsedNs() {
        return this.selectElapsed.get()?.elapsedNs ?? 0n;
    }
    /** It never falls. */
    setElapsed(elapsedNs) {
        this.updateElapsed.run(elapsedNs);
    }
}
//# sourceMappingURL=held_windows.js.map