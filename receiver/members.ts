/** The members that this receiver serves: their journals, open as long as it runs, and their live sessions. */
import type { PointTile } from '../native/index.js';
import type { Heartbeat } from '../proto/replication.js';
import { toCatalogError } from './catalog/database.js';
import type { MemberRow } from './catalog/members.js';
import { MemberJournal, type JournalParts } from './journal/journal.js';
import type { Journals } from './points.js';
import { Throughput } from './throughput.js';

/** A session that holds a member: between its stored epoch and its end there is only one. */
export interface LiveSession {
  readonly epoch: bigint;
  /** Ends it; resolves when it has ended, and everything that it asked for. */
  displace(code: 'FENCED' | null): Promise<void>;
  /** Asks the agent to mark a checkpoint. Errors: AGENT_AWAY, SESSION_LOST, CHECKPOINT_*, POINT_GRADE. */
  askCheckpoint(name: string): Promise<void>;
}

export class Member {
  live: LiveSession | null = null;
  /** What the agent said of itself last, in the present session. */
  heartbeat: Heartbeat | null = null;
  /** Why the last session ended, a code; "" while one lasts or none ever was. */
  lastEnd = '';
  readonly received: Throughput;

  constructor(
    readonly journal: MemberJournal,
    nowMs: () => number,
  ) {
    this.received = new Throughput(nowMs);
  }
}

export class Members implements Journals {
  private readonly members = new Map<string, Promise<Member>>();
  private readonly opened = new Map<string, Member>();

  constructor(
    private readonly parts: JournalParts,
    private readonly nowMs: () => number,
  ) {}

  /** Opens the journals of all members that the catalog knows. Errors: as MemberJournal.open. */
  async openAll(): Promise<void> {
    const { members } = this.parts.catalog;
    for (const group of members.groups()) {
      for (const row of members.members(group.uuid)) await this.open(row);
    }
  }

  /** The member, with its journal opened at the first call. */
  open(row: MemberRow): Promise<Member> {
    let member = this.members.get(row.uuid);
    if (member === undefined) {
      member = this.create(row);
      this.members.set(row.uuid, member);
      // A journal that could not be opened is tried anew by the next session.
      member.catch(() => this.members.delete(row.uuid));
    }
    return member;
  }
  /** An opened member, or null. */
  get(uuid: string): Member | null {
    return this.opened.get(uuid) ?? null;
  }

  refresh(uuid: string): void {
    const member = this.opened.get(uuid);
    if (member !== undefined) this.persist(member);
  }
  refreshAll(): void {
    for (const member of this.opened.values()) this.persist(member);
  }
  tiles(uuid: string, baseLsn: bigint, lsn: bigint): PointTile[] {
    return this.opened.get(uuid)?.journal.tiles(baseLsn, lsn) ?? [];
  }

  /** Completes and closes every journal; what fails is named in the log. Sessions must have ended. */
  async close(): Promise<void> {
    for (const [member, { journal }] of this.opened) {
      try {
        await journal.close();
      } catch (thrown) {
        // The next start finds in the segments what the catalog did not take.
        this.parts.log.error({ err: toCatalogError(thrown), member }, 'a journal did not close cleanly');
      }
    }
    this.opened.clear();
    this.members.clear();
  }

  private persist({ journal }: Member): void {
    try {
      journal.persist();
    } catch (thrown) {
      // The catalog may lag behind: frames are the truth, and the next second tries again.
      const member = journal.member.uuid;
      this.parts.log.error({ err: toCatalogError(thrown), member }, 'the catalog could not be written');
    }
  }

  private async create(row: MemberRow): Promise<Member> {
    await this.parts.store.createMember(row.group, row.uuid);
    const member = new Member(await MemberJournal.open(this.parts, row), this.nowMs);
    this.opened.set(row.uuid, member);
    return member;
  }
}
