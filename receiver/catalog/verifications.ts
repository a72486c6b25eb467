/**
 * What is known of the replicas from comparing them with their sources: from where on a volume was equal, and which
 * instants show something that its source did not hold (R5).
 */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

/** All of the volume was copied or compared, and nothing was found to differ from there on. */
export interface VerifiedRow {
  member: string;
  number: number;
  lsn: bigint;
  /** Of the record at `lsn`, or of when it was found. */
  timeNs: bigint;
}

/** A replica that was found to differ: nobody knows since when, so from where it was last known to be equal. */
export interface DifferenceRow {
  member: string;
  /** Of the volume. */
  number: number;
  firstLsn: bigint;
  firstTimeNs: bigint;
  /** The last instant before it was mended. Null: up to the end of foundGeneration, the next is compared anew. */
  lastLsn: bigint | null;
  lastTimeNs: bigint | null;
  foundGeneration: bigint;
  reason: string;
}
interface Stored extends Omit<DifferenceRow, 'number'> {
  number: bigint;
}

export class VerificationTable {
  private readonly upsert: Statement<[VerifiedRow]>;
  private readonly select: Statement<[string, number], { lsn: bigint; timeNs: bigint }>;
  private readonly insert: Statement<[DifferenceRow]>;
  private readonly selectPending: Statement<[string, number], unknown>;
  private readonly restate: Statement<[string, string, number, bigint]>;
  private readonly close: Statement<[bigint, bigint | null, string, number, bigint]>;
  private readonly deleteOld: Statement<[string, bigint, bigint]>;
  private readonly selectAll: Statement<[string], Stored>;

  constructor(database: CatalogDatabase) {
    this.upsert = database.prepare(`
      INSERT OR REPLACE INTO verified_volumes (member, number, lsn, time_ns)
      VALUES (@member, @number, @lsn, @timeNs)`);
    this.select = database.prepare(
      'SELECT lsn, time_ns AS timeNs FROM verified_volumes WHERE member = ? AND number = ?',
    );
    this.insert = database.prepare(`
      INSERT INTO differences
        (member, number, first_lsn, first_time_ns, last_lsn, last_time_ns, found_generation, reason)
      VALUES (@member, @number, @firstLsn, @firstTimeNs, @lastLsn, @lastTimeNs, @foundGeneration, @reason)`);
    // What is compared as a whole later on is known to be equal from a later LSN on.
    this.selectPending = database.prepare(`
      SELECT 1 FROM differences AS found
      WHERE member = ? AND number = ? AND last_lsn IS NULL AND first_lsn >= coalesce(
        (SELECT lsn FROM verified_volumes AS known
         WHERE known.member = found.member AND known.number = found.number), 1)`);
    this.restate = database.prepare(`
      UPDATE differences SET reason = ?
      WHERE member = ? AND number = ? AND last_lsn IS NULL AND found_generation = ?`);
    this.close = database.prepare(`
      UPDATE differences SET last_lsn = ?, last_time_ns = ?
      WHERE member = ? AND number = ? AND last_lsn IS NULL AND found_generation = ?`);
    this.deleteOld = database.prepare(`
      DELETE FROM differences WHERE member = ? AND
        CASE WHEN last_lsn IS NULL THEN found_generation < ? ELSE last_lsn < ? END`);
    this.selectAll = database.prepare(`
      SELECT member, number, first_lsn AS firstLsn, first_time_ns AS firstTimeNs, last_lsn AS lastLsn,
        last_time_ns AS lastTimeNs, found_generation AS foundGeneration, reason
      FROM differences WHERE member = ? ORDER BY found_generation, number, first_lsn`);
  }

  /** From where on the volume is known to be equal; null: it never was. */
  verified(member: string, number: number): { lsn: bigint; timeNs: bigint } | null {
    return this.select.get(member, number) ?? null;
  }
  putVerified(row: VerifiedRow): void {
    this.upsert.run(row);
  }

  differences(member: string): DifferenceRow[] {
    return this.selectAll.all(member).map((row) => ({ ...row, number: Number(row.number) }));
  }
  addDifference(row: DifferenceRow): void {
    this.insert.run(row);
  }
  /** Whether something was found that is neither mended nor compared again since. */
  isPending(member: string, number: number): boolean {
    return this.selectPending.get(member, number) !== undefined;
  }
  /** What was found in `generation`, and is not mended, is more by now. */
  restateDifference(member: string, number: number, generation: bigint, reason: string): void {
    this.restate.run(reason, member, number, generation);
  }
  /** What was found in `generation`, and is not mended, is mended behind `lastLsn`. */
  mended(
    member: string,
    number: number,
    generation: bigint,
    { lastLsn, lastTimeNs }: { lastLsn: bigint; lastTimeNs: bigint | null },
  ): void {
    this.close.run(lastLsn, lastTimeNs, member, number, generation);
  }
  /** Forgets what only instants before `lsn`, a record of `generation`, show. */
  deleteBefore(member: string, lsn: bigint, generation: bigint): void {
    this.deleteOld.run(member, generation, lsn);
  }
}
