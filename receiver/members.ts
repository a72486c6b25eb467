/** The members that this receiver serves: their journals, open as long as it runs, and their live sessions. */
import type { PointTile } from '../native/index.js';
import { AfterimageError, toAfterimageError, type ErrorCode } from '../proto/errors.js';
import type { Heartbeat } from '../proto/replication.js';
import type { DamagedJournal } from './base_damage.js';
import { toCatalogError } from './catalog/database.js';
import type { MemberRow } from './catalog/members.js';
import { MemberJournal, type JournalParts } from './journal/journal.js';
import type { Journals } from './points.js';
import type { StoredWriter } from './session_events.js';
import { Throughput } from '../service/throughput.js';

/** A session that has claimed a member. */
export interface LiveSession {
  readonly writer: StoredWriter;
  /** Ends it; resolves when it has ended, and everything that it asked for. */
  displace(code: 'FENCED' | null): Promise<void>;
  /** Asks the agent to mark a checkpoint. Errors: AGENT_AWAY, SESSION_LOST, CHECKPOINT_*, POINT_GRADE. */
  askCheckpoint(name: string): Promise<void>;
}

export class Member {
  /** The session that holds it: between its stored epoch and its end there is only one. */
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

  /** Its journal, for those who record damage of what lies under it. */
  get damaged(): DamagedJournal {
    const { journal } = this;
    return {
      get durableLsn() {
        return journal.durableLsn;
      },
      persist: () => journal.persist(),
      timeAt: (lsn) => journal.timeAt(lsn),
      stop: async () => {
        while (this.live !== null) await this.live.displace(null);
      },
    };
  }
}

export class Members implements Journals {
  private readonly members = new Map<string, Promise<Member>>();
  private readonly opened = new Map<string, Member>();
  /** Members whose journal could not be opened, with the reason: everything else is served. */
  private readonly failed = new Map<string, AfterimageError>();
  /** Sessions that have not ended, by member, in the order in which they came. */
  private readonly claims = new Map<string, LiveSession[]>();

  constructor(
    private readonly parts: JournalParts,
    private readonly nowMs: () => number,
  ) {}

  /** Opens the journals of all members that the catalog knows. One that cannot be opened takes no other with it. */
  async openAll(): Promise<void> {
    const { catalog, log } = this.parts;
    for (const group of catalog.members.groups()) {
      for (const row of catalog.members.members(group.uuid)) {
        try {
          await this.open(row);
        } catch (thrown) {
          const what = { err: toAfterimageError(thrown), group: group.name, host: row.host };
          log.error(what, 'a journal could not be opened: its member is refused, all others are served');
        }
      }
    }
  }

  /**
   * The member, with its journal opened at the first call, and anew after JOURNAL_IO: its writer has stopped for good, and
   * only the disk says what is there. Errors: as MemberJournal.open.
   */
  async open(row: MemberRow): Promise<Member> {
    const member = await this.openOnce(row);
    return member.journal.fault === 'JOURNAL_IO' && member.live === null ? this.reopen(row, member) : member;
  }

  private openOnce(row: MemberRow): Promise<Member> {
    let member = this.members.get(row.uuid);
    if (member === undefined) {
      member = this.create(row);
      this.members.set(row.uuid, member);
      // A journal that could not be opened is tried anew by the next session.
      member.catch((thrown: unknown) => {
        this.members.delete(row.uuid);
        this.failed.set(row.uuid, toAfterimageError(thrown));
      });
    }
    return member;
  }

  /** Claims the member; returns those who did before and have not ended. They have to end before it is this session's. */
  claim(uuid: string, session: LiveSession): LiveSession[] {
    const earlier = this.claims.get(uuid) ?? [];
    this.claims.set(uuid, [...earlier, session]);
    return earlier;
  }
  /** The session has ended. */
  release(uuid: string, session: LiveSession): void {
    const left = (this.claims.get(uuid) ?? []).filter((other) => other !== session);
    if (left.length > 0) this.claims.set(uuid, left);
    else this.claims.delete(uuid);
  }

  /** Taken in since the start, by member. */
  receivedBytes(): ReadonlyMap<string, bigint> {
    return new Map([...this.opened].map(([uuid, { received }]) => [uuid, received.total]));
  }
  /** Of every member: why its journal takes nothing, a code; null: it does. */
  faults(): { name: string; fault: string | null }[] {
    const { catalog } = this.parts;
    return catalog.members.groups().flatMap(({ uuid, name }) =>
      catalog.members.members(uuid).map((row) => ({
        name: `${name} of ${row.host}`,
        fault: this.opened.get(row.uuid)?.journal.fault ?? this.fault(row.uuid),
      })),
    );
  }

  /** Why the member's journal could not be opened, or null. */
  fault(uuid: string): ErrorCode | null {
    return this.failed.get(uuid)?.code ?? null;
  }
  /** An opened member, or null. */
  get(uuid: string): Member | null {
    return this.opened.get(uuid) ?? null;
  }

  /** Errors: those with which the journal could not be opened. */
  refresh(uuid: string): void {
    const failed = this.failed.get(uuid);
    if (failed !== undefined) throw failed;
    const member = this.opened.get(uuid);
    if (member !== undefined) this.persist(member);
  }
  refreshAll(): void {
    for (const member of this.opened.values()) this.persist(member);
  }
  /** Errors: those with which the journal could not be opened. Without it a point would be the bare base. */
  tiles(uuid: string, baseLsn: bigint, lsn: bigint): PointTile[] {
    const member = this.opened.get(uuid);
    if (member !== undefined) return member.journal.tiles(baseLsn, lsn);
    throw this.failed.get(uuid) ?? new AfterimageError('INTERNAL', `the journal of ${uuid} is not open`);
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

  /** Where it fails, `broken` stays: it takes no frame, but its points can be opened. */
  private async reopen(row: MemberRow, broken: Member): Promise<Member> {
    this.persist(broken);
    const member = await this.create(row);
    this.members.set(row.uuid, Promise.resolve(member));
    try {
      await broken.journal.close();
    } catch (thrown) {
      this.parts.log.error(
        { err: toCatalogError(thrown), member: row.uuid },
        'a broken journal did not close',
      );
    }
    this.parts.log.warn({ member: row.uuid }, 'a journal was opened anew after an error of its disk');
    return member;
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
    this.failed.delete(row.uuid);
    return member;
  }
}
