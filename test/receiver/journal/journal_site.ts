/** A store with one member, whose journal is filled by real frames and opened as often as a test likes. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import type { Test } from 'tap';
import * as native from '../../../native/index.js';
import { BaseAccess } from '../../../receiver/base_access.js';
import { Catalog } from '../../../receiver/catalog/catalog.js';
import { NOT_COVERED, type MemberRow } from '../../../receiver/catalog/members.js';
import { alignedFrame } from '../../../receiver/aligned_frame.js';
import type { JournalParts } from '../../../receiver/journal/journal.js';
import { RunBuilds } from '../../../receiver/journal/runs.js';
import { Members, type Member } from '../../../receiver/members.js';
import { SessionStore } from '../../../receiver/session_store.js';
import { Store } from '../../../receiver/store.js';
import { ScriptedAgent } from '../scripted_agent.js';

export const SIZE = 4 * 1024 * 1024;
const KIB = 1024;

export class JournalSite {
  readonly parts: JournalParts;
  readonly sessions: SessionStore;
  members: Members;

  private constructor(
    readonly directory: string,
    readonly store: Store,
    readonly catalog: Catalog,
    readonly agent: ScriptedAgent,
  ) {
    const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' }, pino.destination(2));
    const runs = new RunBuilds({ catalog, store, log, buildRun: native.buildRun });
    const access = new BaseAccess();
    this.parts = {
      catalog,
      store,
      access,
      native,
      log,
      segmentBytes: 4n * 1024n * 1024n,
      headroomBytes: 0n,
      runs,
    };
    this.sessions = new SessionStore(catalog, () => 1n);
    this.members = new Members(this.parts, () => 0);
  }

  /** The member has its first session behind it, and generation 1 begun. */
  static async create(test: Test): Promise<JournalSite> {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-journal-'));
    test.teardown(() => rm(directory, { recursive: true, force: true }));
    const store = await Store.init(path.join(directory, 'store'), randomUUID());
    const catalog = Catalog.open(store.catalogFile);
    const identity = { group: randomBytes(16), member: randomBytes(16), instance: randomBytes(16) };
    const agent = await ScriptedAgent.create(directory, { ...identity, epoch: 1n }, SIZE);
    const site = new JournalSite(directory, store, catalog, agent);
    test.teardown(async () => {
      await site.members.close();
      await site.parts.runs.close();
      catalog.close();
      await agent.close();
    });
    site.sessions.storeWriter(agent.hello(), null);
    site.begin(1n, 1n);
    await site.reopen();
    agent.begin(1n, 1n);
    return site;
  }

  /** Records that a generation has begun, as the catalog does before the journal hears of it. */
  begin(generation: bigint, firstLsn: bigint, durableLsn = firstLsn - 1n): void {
    const begin = { generation, firstLsn, reason: 'NEW', volumes: [this.agent.info] };
    this.sessions.beginGeneration(this.row.uuid, begin, durableLsn);
  }

  /** As a receiver that was killed and started again, `between` the two. */
  async reopen(between: () => Promise<void> | void = () => undefined): Promise<void> {
    await this.members.close();
    await between();
    this.members = new Members(this.parts, () => 0);
    await this.members.openAll();
  }

  /** Writes, and appends a frame for each. Returns the last LSN. */
  async write(count: number): Promise<bigint> {
    let lsn = 0n;
    for (let index = 0; index < count; index += 1) {
      lsn = await this.agent.write(0, randomBytes(64 * KIB));
      for (const frame of await this.agent.framesUpTo(lsn))
        await this.member.journal.append(alignedFrame(frame));
    }
    return lsn;
  }

  get row(): MemberRow {
    const [group] = this.catalog.members.groups();
    const [row] = group === undefined ? [] : this.catalog.members.members(group.uuid);
    if (row === undefined) throw new Error('there is a member');
    return row;
  }
  get member(): Member {
    const member = this.members.get(this.row.uuid);
    if (member === null) throw new Error(`it is not open: ${this.members.fault(this.row.uuid) ?? ''}`);
    return member;
  }
  async files(suffix: '.seg' | '.run'): Promise<string[]> {
    const directory = this.store.journalDirectory(this.row.group, this.row.uuid);
    const names = (await readdir(directory)).filter((name) => name.endsWith(suffix)).sort();
    return names.map((name) => path.join(directory, name));
  }
}

/** A member of another group that nobody has written to. */
export function addOther({ catalog }: JournalSite): MemberRow {
  const group = randomUUID();
  catalog.members.addGroup({ uuid: group, name: `other-${group.slice(0, 8)}` });
  const row = { uuid: randomUUID(), group, host: 'host2', epoch: 1n, instance: randomBytes(16) };
  const member = { ...row, owner: null, ackedLsn: 0n, coverage: NOT_COVERED };
  catalog.members.putMember(member);
  return member;
}
