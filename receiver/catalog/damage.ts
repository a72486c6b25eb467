/** Records that were acknowledged and that the journal no longer gives. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface DamageRow {
  member: string;
  firstLsn: bigint;
  lastLsn: bigint;
  /**
   * The last instant that they touch, at least lastLsn: behind it all that they had set was set again. Null: up to the end
   * of foundGeneration, the next was compared anew.
   */
  touchedLsn: bigint | null;
  /** Of the record touchedLsn; null where that is none. */
  touchedTimeNs: bigint | null;
  /** The member's newest one when it was found. */
  foundGeneration: bigint;
  /** A code of proto/errors.ts, or the reason that a scan gave. */
  reason: string;
}

export class DamageTable {
  private readonly insert: Statement<[DamageRow]>;
  private readonly selectAll: Statement<[string], DamageRow>;
  private readonly deleteOld: Statement<[string, bigint, bigint]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO damage (member, first_lsn, last_lsn, touched_lsn, touched_time_ns, found_generation, reason)
      VALUES (@member, @firstLsn, @lastLsn, @touchedLsn, @touchedTimeNs, @foundGeneration, @reason)`);
    this.selectAll = database.prepare(`
      SELECT member, first_lsn AS firstLsn, last_lsn AS lastLsn, touched_lsn AS touchedLsn,
        touched_time_ns AS touchedTimeNs, found_generation AS foundGeneration, reason
      FROM damage WHERE member = ? ORDER BY first_lsn`);
    this.deleteOld = database.prepare(`
      DELETE FROM damage WHERE member = ? AND
        CASE WHEN touched_lsn IS NULL THEN found_generation < ? ELSE touched_lsn < ? END`);
  }

  /** Ascending; no two of them overlap. */
  damage(member: string): DamageRow[] {
    return this.selectAll.all(member);
  }
  /** Adds what no row names yet: the next one may begin right behind it, found later. */
  add(damage: DamageRow): void {
    this.insert.run(damage);
  }
  /** Forgets what touches only instants before `lsn`, a record of `generation`: no segment before it is left. */
  deleteBefore(member: string, lsn: bigint, generation: bigint): void {
    this.deleteOld.run(member, generation, lsn);
  }
}
