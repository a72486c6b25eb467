/** Generations of a member's stream: where each begins and ends, and from where on its volumes are consistent. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface GenerationRow {
  member: string;
  generation: bigint;
  firstLsn: bigint;
  /** Null while the generation lasts. */
  lastLsn: bigint | null;
  /** The receiver's clock when it began: a fallback while there is no record. */
  beginNs: bigint;
  /** Nothing after this time was captured for it. Null while it lasts. */
  endNs: bigint | null;
  /** Why the generation before could not go on. */
  reason: string;
  /** Why this one ended, "" while it lasts. */
  endReason: string;
}
export interface GenerationVolumeRow {
  member: string;
  generation: bigint;
  number: number;
  size: bigint;
  /** From this LSN on the volume is consistent with the others; null until its sync is complete. */
  orderedLsn: bigint | null;
  /** When that was, by the host's clock; 0n: before its first record, and nobody said when. */
  orderedTimeNs: bigint | null;
}
interface StoredVolume extends Omit<GenerationVolumeRow, 'number'> {
  number: bigint;
}

const COLUMNS = `member, generation, first_lsn AS firstLsn, last_lsn AS lastLsn, begin_ns AS beginNs,
  end_ns AS endNs, reason, end_reason AS endReason`;
const VOLUME_COLUMNS =
  'member, generation, number, size, ordered_lsn AS orderedLsn, ordered_time_ns AS orderedTimeNs';

export class GenerationTable {
  private readonly insert: Statement<[GenerationRow]>;
  private readonly insertVolume: Statement<[GenerationVolumeRow]>;
  private readonly selectAll: Statement<[string], GenerationRow>;
  private readonly selectNewest: Statement<[string], GenerationRow>;
  private readonly selectVolumes: Statement<[string, bigint], StoredVolume>;
  private readonly removeVolumes: Statement<[string, bigint]>;
  private readonly remove: Statement<[string, bigint]>;
  private readonly updateEnd: Statement<[bigint, bigint, string, string, bigint]>;
  private readonly updateOrdered: Statement<[bigint, bigint, string, bigint, number]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO generations (member, generation, first_lsn, last_lsn, begin_ns, end_ns, reason, end_reason)
      VALUES (@member, @generation, @firstLsn, @lastLsn, @beginNs, @endNs, @reason, @endReason)`);
    this.insertVolume = database.prepare(`
      INSERT INTO generation_volumes (member, generation, number, size, ordered_lsn, ordered_time_ns)
      VALUES (@member, @generation, @number, @size, @orderedLsn, @orderedTimeNs)`);
    this.selectAll = database.prepare(
      `SELECT ${COLUMNS} FROM generations WHERE member = ? ORDER BY generation`,
    );
    this.selectNewest = database.prepare(
      `SELECT ${COLUMNS} FROM generations WHERE member = ? ORDER BY generation DESC LIMIT 1`,
    );
    this.selectVolumes = database.prepare(`
      SELECT ${VOLUME_COLUMNS} FROM generation_volumes WHERE member = ? AND generation = ? ORDER BY number`);
    this.removeVolumes = database.prepare(
      'DELETE FROM generation_volumes WHERE member = ? AND generation < ?',
    );
    this.remove = database.prepare('DELETE FROM generations WHERE member = ? AND generation < ?');
    this.updateEnd = database.prepare(`
      UPDATE generations SET last_lsn = ?, end_ns = ?, end_reason = ?
      WHERE member = ? AND generation = ? AND last_lsn IS NULL`);
    this.updateOrdered = database.prepare(`
      UPDATE generation_volumes SET ordered_lsn = ?, ordered_time_ns = ?
      WHERE member = ? AND generation = ? AND number = ?`);
  }

  /** Ascending. */
  generations(member: string): GenerationRow[] {
    return this.selectAll.all(member);
  }
  newest(member: string): GenerationRow | null {
    return this.selectNewest.get(member) ?? null;
  }
  volumes(member: string, generation: bigint): GenerationVolumeRow[] {
    return this.selectVolumes.all(member, generation).map((row) => ({ ...row, number: Number(row.number) }));
  }
  begin(generation: GenerationRow, volumes: readonly GenerationVolumeRow[]): void {
    this.insert.run(generation);
    for (const volume of volumes) this.insertVolume.run(volume);
  }
  /** Forgets those before `generation`. */
  deleteBefore(member: string, generation: bigint): void {
    this.removeVolumes.run(member, generation);
    this.remove.run(member, generation);
  }
  /** A generation ends once: a second end changes nothing. */
  end(member: string, generation: bigint, lastLsn: bigint, endNs: bigint, reason: string): void {
    this.updateEnd.run(lastLsn, endNs, reason, member, generation);
  }
  setOrdered(member: string, generation: bigint, number: number, lsn: bigint, timeNs: bigint): void {
    this.updateOrdered.run(lsn, timeNs, member, generation, number);
  }
}
