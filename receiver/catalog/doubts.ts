/**
 * What an agent's dirty logs are worth: which log the receiver was told of last for each volume, how far it had come, and
 * whether only a comparison of the whole volume can make it synced in another generation.
 */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface DoubtRow {
  member: string;
  number: number;
  /** 0n: none was told of. */
  logId: bigint;
  sequence: bigint;
  whole: boolean;
}

interface Stored extends Omit<DoubtRow, 'number' | 'whole'> {
  number: bigint;
  whole: bigint;
}

export class DoubtTable {
  private readonly upsert: Statement<[string, number, bigint, bigint, number]>;
  private readonly selectAll: Statement<[string], Stored>;
  private readonly updateAll: Statement<[string]>;

  constructor(database: CatalogDatabase) {
    this.upsert = database.prepare(`
      INSERT INTO doubts (member, number, log_id, sequence, whole) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT (member, number) DO UPDATE SET
        log_id = excluded.log_id, sequence = excluded.sequence, whole = excluded.whole`);
    this.selectAll = database.prepare(
      'SELECT member, number, log_id AS logId, sequence, whole FROM doubts WHERE member = ?',
    );
    this.updateAll = database.prepare('UPDATE doubts SET whole = 1 WHERE member = ?');
  }

  /** A volume that has no row is in doubt as a whole, and no log of it was told of. */
  doubt(member: string, number: number): DoubtRow {
    const found = this.selectAll.all(member).find((row) => Number(row.number) === number);
    if (found === undefined) return { member, number, logId: 0n, sequence: 0n, whole: true };
    return { ...found, number, whole: found.whole !== 0n };
  }
  put({ member, number, logId, sequence, whole }: DoubtRow): void {
    this.upsert.run(member, number, logId, sequence, whole ? 1 : 0);
  }
  /** All volumes of the member are in doubt as a whole. */
  raise(member: string): void {
    this.updateAll.run(member);
  }
}
