/** Time eras of a member: where its clock was stepped. A time that lies in two of them names no point. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface EraRow {
  member: string;
  era: number;
  firstLsn: bigint;
  firstTimeNs: bigint;
  /** Time of the last record before it: the end of the era before. 0n for a member's first era. */
  previousTimeNs: bigint;
}
interface Stored extends Omit<EraRow, 'era'> {
  era: bigint;
}

export class EraTable {
  private readonly insert: Statement<[EraRow]>;
  private readonly selectAll: Statement<[string], Stored>;
  private readonly remove: Statement<[{ member: string; lsn: bigint }]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO eras (member, era, first_lsn, first_time_ns, previous_time_ns)
      VALUES (@member, @era, @firstLsn, @firstTimeNs, @previousTimeNs) ON CONFLICT DO NOTHING`);
    this.selectAll = database.prepare(`
      SELECT member, era, first_lsn AS firstLsn, first_time_ns AS firstTimeNs, previous_time_ns AS previousTimeNs
      FROM eras WHERE member = ? ORDER BY first_lsn, era`);
    this.remove = database.prepare(`
      DELETE FROM eras WHERE member = @member AND first_lsn <
        (SELECT max(first_lsn) FROM eras WHERE member = @member AND first_lsn <= @lsn)`);
  }

  /** In the order of their records. */
  eras(member: string): EraRow[] {
    return this.selectAll.all(member).map((row) => ({ ...row, era: Number(row.era) }));
  }
  /** A known era keeps its beginning. */
  add(era: EraRow): void {
    this.insert.run(era);
  }
  /** Forgets those that ended before the record `lsn`. */
  deleteBefore(member: string, lsn: bigint): void {
    this.remove.run({ member, lsn });
  }
}
