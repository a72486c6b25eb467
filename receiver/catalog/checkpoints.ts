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
  /** Retention holds back rather than let go of it. */
  pinned: boolean;
  /** Before it nobody can unpin or delete it; 0n: it is not locked. */
  lockedUntilNs: bigint;
}
interface Stored extends Omit<CheckpointRow, 'pinned'> {
  pinned: bigint;
}

const COLUMNS = `group_uuid AS "group", name, member, lsn, time_ns AS timeNs, consistency, pinned,
  locked_until_ns AS lockedUntilNs`;

export class CheckpointTable {
  private readonly insert: Statement<[Stored]>;
  private readonly selectAll: Statement<[string], Stored>;
  private readonly selectOne: Statement<[string, string], Stored>;
  private readonly selectPinned: Statement<[string], Stored>;
  private readonly selectBefore: Statement<[string, bigint], Stored>;
  private readonly updatePinned: Statement<[bigint, string, string]>;
  private readonly updateLocked: Statement<[bigint, string, string]>;
  private readonly remove: Statement<[string, string]>;

  constructor(database: CatalogDatabase) {
    this.insert = database.prepare(`
      INSERT INTO checkpoints (group_uuid, name, member, lsn, time_ns, consistency, pinned, locked_until_ns)
      VALUES (@group, @name, @member, @lsn, @timeNs, @consistency, @pinned, @lockedUntilNs)`);
    this.selectAll = database.prepare(
      `SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? ORDER BY time_ns, lsn, name`,
    );
    this.selectOne = database.prepare(`SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? AND name = ?`);
    this.selectPinned = database.prepare(`
      SELECT ${COLUMNS} FROM checkpoints WHERE group_uuid = ? AND pinned = 1 ORDER BY time_ns, lsn, name`);
    this.selectBefore = database.prepare(
      `SELECT ${COLUMNS} FROM checkpoints WHERE member = ? AND lsn < ? ORDER BY lsn, name`,
    );
    this.updatePinned = database.prepare(
      'UPDATE checkpoints SET pinned = ? WHERE group_uuid = ? AND name = ?',
    );
    // A lock is made longer, and never shorter.
    this.updateLocked = database.prepare(`
      UPDATE checkpoints SET pinned = 1, locked_until_ns = max(locked_until_ns, ?) WHERE group_uuid = ? AND name = ?`);
    this.remove = database.prepare('DELETE FROM checkpoints WHERE group_uuid = ? AND name = ?');
  }

  /** Of one group, by time. */
  checkpoints(group: string): CheckpointRow[] {
    return this.selectAll.all(group).map(fromStored);
  }
  /** Those of one group that are pinned, by time. */
  pinned(group: string): CheckpointRow[] {
    return this.selectPinned.all(group).map(fromStored);
  }
  /** Those of a member's LSNs below `lsn`. */
  before(member: string, lsn: bigint): CheckpointRow[] {
    return this.selectBefore.all(member, lsn).map(fromStored);
  }
  checkpoint(group: string, name: string): CheckpointRow | null {
    const row = this.selectOne.get(group, name);
    return row === undefined ? null : fromStored(row);
  }
  add(checkpoint: CheckpointRow): void {
    this.insert.run({ ...checkpoint, pinned: checkpoint.pinned ? 1n : 0n });
  }
  setPinned(group: string, name: string, pinned: boolean): void {
    this.updatePinned.run(pinned ? 1n : 0n, group, name);
  }
  /** Pins it, so that nobody unpins it before `untilNs`, or an earlier lock's end if that is later. */
  lock(group: string, name: string, untilNs: bigint): void {
    this.updateLocked.run(untilNs, group, name);
  }
  delete(group: string, name: string): void {
    this.remove.run(group, name);
  }
}

function fromStored(row: Stored): CheckpointRow {
  return { ...row, pinned: row.pinned === 1n };
}
