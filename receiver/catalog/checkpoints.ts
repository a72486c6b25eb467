/** Checkpoints: names for positions in a group's history. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface CheckpointRow {
  group: string;
  name: string;
  member: string;
  lsn: bigint;
  timeNs: bigint;
  consistency: 'crash' | 'application';
}

const COLUMNS = `group_uuid AS "group", name, member, lsn, time_ns AS timeNs, consistency`;

export class CheckpointTable {
  private readonly insert: Statement<[CheckpointRow]>;
  private readonly selectAll: Statement<[string], CheckpointRow>;
  private readonly selectOne: Statement<[string, string], CheckpointRow>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO checkpoints (group_uuid, name, member, lsn, time_ns, consistency)
      VALUES (@group, @name, @member, @lsn, @timeNs, @consistency)`);
    this.selectAll = database.prepare(
      `SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? ORDER BY time_ns, lsn, name`,
    );
    this.selectOne = database.prepare(`SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? AND name = ?`);
  }

  /** Of one group, by time. */
  checkpoints(group: string): CheckpointRow[] {
    return this.selectAll.all(group);
  }
  checkpoint(group: string, name: string): CheckpointRow | null {
    return this.selectOne.get(group, name) ?? null;
  }
  add(checkpoint: CheckpointRow): void {
    this.insert.run(checkpoint);
  }
}
