/** Records that were acknowledged and that the journal no longer gives. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface DamageRow {
  member: string;
  firstLsn: bigint;
  lastLsn: bigint;
  /** From firstLsn to the end of this generation every instant is damaged; the next one was compared anew. */
  foundGeneration: bigint;
  /** A code of proto/errors.ts, or the reason that a scan gave. */
  reason: string;
}

export class DamageTable {
  private readonly insert: Statement<[DamageRow]>;
  private readonly selectAll: Statement<[string], DamageRow>;
  private readonly remove: Statement<[string, bigint]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO damage (member, first_lsn, last_lsn, found_generation, reason)
      VALUES (@member, @firstLsn, @lastLsn, @foundGeneration, @reason)`);
    this.selectAll = database.prepare(`
      SELECT member, first_lsn AS firstLsn, last_lsn AS lastLsn, found_generation AS foundGeneration, reason
      FROM damage WHERE member = ? ORDER BY first_lsn`);
    this.remove = database.prepare('DELETE FROM damage WHERE member = ? AND found_generation < ?');
  }

  /** Ascending; no two of them overlap. */
  damage(member: string): DamageRow[] {
    return this.selectAll.all(member);
  }
  /** Adds what no row names yet: the next one may begin right behind it, found later. */
  add(damage: DamageRow): void {
    this.insert.run(damage);
  }
  /** Forgets what says nothing of `generation` and those behind it. */
  deleteBefore(member: string, generation: bigint): void {
    this.remove.run(member, generation);
  }
}
