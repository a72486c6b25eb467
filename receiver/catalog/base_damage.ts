/** Damaged blocks of base images: which instants need them. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface BaseDamageRow {
  member: string;
  /** Of the volume. */
  number: number;
  /** Instants from there on show the block, or fail. */
  firstLsn: bigint;
  /** The last one of them: then it was written over. Null: up to the end of foundGeneration, the next was compared anew. */
  lastLsn: bigint | null;
  /** Time of the record at lastLsn. */
  lastTimeNs: bigint | null;
  /** The newest one when it was found. */
  foundGeneration: bigint;
  reason: string;
}
interface Stored extends Omit<BaseDamageRow, 'number'> {
  number: bigint;
}

export class BaseDamageTable {
  private readonly insert: Statement<[BaseDamageRow]>;
  private readonly deleteOld: Statement<[string, bigint, bigint]>;
  private readonly selectAll: Statement<[string], Stored>;

  constructor(database: CatalogDatabase) {
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

  damage(member: string): BaseDamageRow[] {
    return this.selectAll.all(member).map((row) => ({ ...row, number: Number(row.number) }));
  }
  /** Forgets what only instants before `lsn`, a record of `generation`, need. */
  deleteBefore(member: string, lsn: bigint, generation: bigint): void {
    this.deleteOld.run(member, generation, lsn);
  }
  add(damage: BaseDamageRow): void {
    this.insert.run(damage);
  }
}
