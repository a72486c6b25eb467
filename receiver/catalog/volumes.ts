/** Volumes of a member and the state of their base images. */
import type { Statement } from 'better-sqlite3';
import type { BaseState } from '../../proto/replication.js';
import type { CatalogDatabase } from './database.js';

export interface VolumeRow {
  member: string;
  /** 0…63, the volume's number in the member's stream. */
  number: number;
  uuid: string;
  name: string;
  /** As the agent said last: the points of a generation have the size that the volume had in it. */
  size: bigint;
  blockSize: number;
  baseState: BaseState;
  /** Records at or below it are in the base, or do not matter to it: only later segments are read on top. */
  baseLsn: bigint;
  /** BASE_SYNCING: everything below is on stable storage in the base. BASE_COMPLETE: it is at least so long. */
  syncOffset: bigint;
}

interface Stored extends Omit<VolumeRow, 'number' | 'blockSize'> {
  number: bigint;
  blockSize: bigint;
}

const COLUMNS = `member, number, uuid, name, size, block_size AS blockSize, base_state AS baseState,
  base_lsn AS baseLsn, sync_offset AS syncOffset`;

export class VolumeTable {
  private readonly upsert: Statement<[VolumeRow]>;
  private readonly selectAll: Statement<[string], Stored>;
  private readonly selectByUuid: Statement<[string], Stored>;
  private readonly updateBaseLsn: Statement<[bigint, bigint, string, number]>;
  private readonly updateBase: Statement<[BaseState, bigint, bigint, string, number]>;

  constructor(database: CatalogDatabase) {
    this.upsert = database.prepare(`
      INSERT INTO volumes (member, number, uuid, name, size, block_size, base_state, base_lsn, sync_offset)
      VALUES (@member, @number, @uuid, @name, @size, @blockSize, @baseState, @baseLsn, @syncOffset)
      ON CONFLICT (member, number) DO UPDATE SET name = excluded.name, size = max(size, excluded.size)`);
    this.selectAll = database.prepare(`SELECT ${COLUMNS} FROM volumes WHERE member = ? ORDER BY number`);
    this.selectByUuid = database.prepare(`SELECT ${COLUMNS} FROM volumes WHERE uuid = ?`);
    this.updateBaseLsn = database.prepare(
      `UPDATE volumes SET base_lsn = max(base_lsn, ?), sync_offset = max(sync_offset, ?)
       WHERE member = ? AND number = ?`,
    );
    this.updateBase = database.prepare(
      'UPDATE volumes SET base_state = ?, base_lsn = ?, sync_offset = ? WHERE member = ? AND number = ?',
    );
  }

  volumes(member: string): VolumeRow[] {
    return this.selectAll.all(member).map(fromStored);
  }
  volumeWithUuid(uuid: string): VolumeRow | null {
    const row = this.selectByUuid.get(uuid);
    return row === undefined ? null : fromStored(row);
  }
  /** Adds a volume; of a known one only the name may change, and its size, which never falls. */
  put(volume: VolumeRow): void {
    this.upsert.run(volume);
  }
  /** The base, which is complete, includes everything up to `lsn`, and is at least `bytes` long. */
  raiseBase(member: string, number: number, lsn: bigint, bytes: bigint): void {
    this.updateBaseLsn.run(lsn, bytes, member, number);
  }
  setBase(member: string, number: number, base: BaseState, baseLsn: bigint, syncOffset: bigint): void {
    this.updateBase.run(base, baseLsn, syncOffset, member, number);
  }
}

function fromStored(row: Stored): VolumeRow {
  return { ...row, number: Number(row.number), blockSize: Number(row.blockSize) };
}
