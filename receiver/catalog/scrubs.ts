/** When each member's journal and bases were last read again in full, and what that found. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface ScrubRow {
  member: string;
  /** By the receiver's clock. */
  finishedNs: bigint;
  /** Read. */
  bytes: bigint;
  /** Segments and blocks of bases that were damaged. */
  damaged: bigint;
  /** Blocks of bases that had lost their checksum, and were given a new one. */
  unsummed: bigint;
}

export class ScrubTable {
  private readonly upsert: Statement<[ScrubRow]>;
  private readonly select: Statement<[string], ScrubRow>;

  constructor(database: CatalogDatabase) {
    this.upsert = database.prepare(`
      INSERT OR REPLACE INTO scrubs (member, finished_ns, bytes, damaged, unsummed)
      VALUES (@member, @finishedNs, @bytes, @damaged, @unsummed)`);
    this.select = database.prepare(
      'SELECT member, finished_ns AS finishedNs, bytes, damaged, unsummed FROM scrubs WHERE member = ?',
    );
  }

  /** Null: never. */
  last(member: string): ScrubRow | null {
    return this.select.get(member) ?? null;
  }
  put(scrub: ScrubRow): void {
    this.upsert.run(scrub);
  }
}
