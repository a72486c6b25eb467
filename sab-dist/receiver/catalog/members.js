export const NOT_COVERED = { lsn: 0n, timeNs: 0n };
const MEMBER = `uuid, group_uuid AS "group", host, epoch, instance, acked_lsn AS ackedLsn,
  covered_lsn AS coveredLsn, covered_time_ns AS coveredTimeNs`;
export class MemberTable {
    insertGroup;
    selectGroups;
    selectGroup;
    selectGroupNamed;
    upsertMember;
    selectMember;
    selectMembers;
    updateProgress;
    constructor(database) {
        this.insertGroup = database.prepare('INSERT INTO groups (uuid, name) VALUES (@uuid, @name)');
        this.selectGroups = database.prepare('SELECT uuid, name FROM groups ORDER BY name');
        this.selectGroup = database.prepare('SELECT uuid, name FROM groups WHERE uuid = ?');
        this.selectGroupNamed = database.prepare('SELECT uuid, name FROM groups WHERE name = ?');
        this.upsertMember = database.prepare(`
      INSERT INTO members (uuid, group_uuid, host, epoch, instance, acked_lsn, covered_lsn,
        covered_time_ns)
      VALUES (@uuid, @group, @host, @epoch, @instance, @ackedLsn, @coveredLsn, @coveredTimeNs)
      ON CONFLICT (uuid) DO UPDATE SET host = excluded.host, epoch = excluded.epoch, instance = excluded.instance`);
        this.selectMember = database.prepare(`SELECT ${MEMBER} FROM members WHERE uuid = ?`);
        this.selectMembers = database.prepare(`SELECT ${MEMBER} FROM members WHERE group_uuid = ? ORDER BY uuid`);
        this.updateProgress = database.prepare(`
      UPDATE members SET acked_lsn = max(acked_lsn, ?), covered_lsn = ?, covered_time_ns = ? WHERE uuid = ?`);
    }
    groups() {
        return this.selectGroups.all();
    }
    group(uuid) {
        return this.selectGroup.get(uuid) ?? null;
    }
    groupNamed(name) {
        return this.selectGroupNamed.get(name) ?? null;
    }
    addGroup(group) {
        this.insertGroup.run(group);
    }
    member(uuid) {
        const row = this.selectMember.get(uuid);
        return row === undefined ? null : fromStored(row);
    }
    /** The members of one group. */
    members(group) {
        return this.selectMembers.all(group).map(fromStored);
    }
    /** Adds a member, or sets host, epoch and instance of a known one. */
    putMember(member) {
        const { coverage, ...row } = member;
        this.upsertMember.run({ ...row, coveredLsn: coverage.lsn, coveredTimeNs: coverage.timeNs });
    }
    /** The acknowledged LSN never falls. The coverage does, when the host's clock is set back. */
    advance(member, ackedLsn, coverage) {
        this.updateProgress.run(ackedLsn, coverage.lsn, coverage.timeNs, member);
    }
}
function fromStored({ coveredLsn, coveredTimeNs, ...row }) {
    return { ...row, coverage: { lsn: coveredLsn, timeNs: coveredTimeNs } };
}
//# sourceMappingURL=members.js.map