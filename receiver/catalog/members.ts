/** Groups and their members: identity, fencing, and how far a member's stream was acknowledged. */
import type { Statement } from 'better-sqlite3';
import type { CatalogDatabase } from './database.js';

export interface GroupRow {
  uuid: string;
  name: string;
}
export interface MemberRow {
  uuid: string;
  group: string;
  host: string;
  /** Of the writer that was welcomed last; another one with a lower epoch is fenced. */
  epoch: bigint;
  /** Of that writer's process. */
  instance: Buffer;
  /** The name of the host whose identity it is; null: it came without one. */
  owner: string | null;
  /** A lower bound of what was acknowledged: only bytes beyond it may be a torn tail. */
  ackedLsn: bigint;
  /** What the agent said of its clock last; NOT_COVERED: nothing, or it was set back since. */
  coverage: Coverage;
}
/**
 * When `lsn` was the last LSN captured, the host's clock showed `timeNs`: everything captured until then is in the
 * journal. It holds for the era of that LSN only (coverage.ts).
 */
export interface Coverage {
  lsn: bigint;
  timeNs: bigint;
}
export const NOT_COVERED: Coverage = { lsn: 0n, timeNs: 0n };

interface StoredMember extends Omit<MemberRow, 'coverage'> {
  coveredLsn: bigint;
  coveredTimeNs: bigint;
}

const MEMBER = `uuid, group_uuid AS "group", host, epoch, instance, owner, acked_lsn AS ackedLsn,
  covered_lsn AS coveredLsn, covered_time_ns AS coveredTimeNs`;

export class MemberTable {
  private readonly insertGroup: Statement<[GroupRow]>;
  private readonly selectGroups: Statement<[], GroupRow>;
  private readonly selectGroup: Statement<[string], GroupRow>;
  private readonly selectGroupNamed: Statement<[string], GroupRow>;
  private readonly upsertMember: Statement<[StoredMember]>;
  private readonly selectMember: Statement<[string], StoredMember>;
  private readonly selectMembers: Statement<[string], StoredMember>;
  private readonly updateProgress: Statement<[bigint, bigint, bigint, string]>;

  constructor(database: CatalogDatabase) {
    this.insertGroup = database.prepare('INSERT INTO groups (uuid, name) VALUES (@uuid, @name)');
    this.selectGroups = database.prepare('SELECT uuid, name FROM groups ORDER BY name');
    this.selectGroup = database.prepare('SELECT uuid, name FROM groups WHERE uuid = ?');
    this.selectGroupNamed = database.prepare('SELECT uuid, name FROM groups WHERE name = ?');
    this.upsertMember = database.prepare(`
      INSERT INTO members (uuid, group_uuid, host, epoch, instance, owner, acked_lsn, covered_lsn,
        covered_time_ns)
      VALUES (@uuid, @group, @host, @epoch, @instance, @owner, @ackedLsn, @coveredLsn, @coveredTimeNs)
      ON CONFLICT (uuid) DO UPDATE SET host = excluded.host, epoch = excluded.epoch, instance = excluded.instance,
        owner = excluded.owner`);
    this.selectMember = database.prepare(`SELECT ${MEMBER} FROM members WHERE uuid = ?`);
    this.selectMembers = database.prepare(`SELECT ${MEMBER} FROM members WHERE group_uuid = ? ORDER BY uuid`);
    this.updateProgress = database.prepare(`
      UPDATE members SET acked_lsn = max(acked_lsn, ?), covered_lsn = ?, covered_time_ns = ? WHERE uuid = ?`);
  }

  groups(): GroupRow[] {
    return this.selectGroups.all();
  }
  group(uuid: string): GroupRow | null {
    return this.selectGroup.get(uuid) ?? null;
  }
  groupNamed(name: string): GroupRow | null {
    return this.selectGroupNamed.get(name) ?? null;
  }
  addGroup(group: GroupRow): void {
    this.insertGroup.run(group);
  }

  member(uuid: string): MemberRow | null {
    const row = this.selectMember.get(uuid);
    return row === undefined ? null : fromStored(row);
  }
  /** The members of one group. */
  members(group: string): MemberRow[] {
    return this.selectMembers.all(group).map(fromStored);
  }
  /** Adds a member, or sets host, epoch, instance and owner of a known one. */
  putMember(member: MemberRow): void {
    const { coverage, ...row } = member;
    this.upsertMember.run({ ...row, coveredLsn: coverage.lsn, coveredTimeNs: coverage.timeNs });
  }
  /** The acknowledged LSN never falls. The coverage does, when the host's clock is set back. */
  advance(member: string, ackedLsn: bigint, coverage: Coverage): void {
    this.updateProgress.run(ackedLsn, coverage.lsn, coverage.timeNs, member);
  }
}

function fromStored({ coveredLsn, coveredTimeNs, ...row }: StoredMember): MemberRow {
  return { ...row, coverage: { lsn: coveredLsn, timeNs: coveredTimeNs } };
}
