import { randomUUID } from 'node:crypto';
import path from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import type { Appended, JournalWriter, SegmentInfo } from '../../../native/index.js';
import { BaseAccess } from '../../../receiver/base_access.js';
import { Catalog } from '../../../receiver/catalog/catalog.js';
import { NOT_COVERED, type MemberRow } from '../../../receiver/catalog/members.js';
import { MemberJournal } from '../../../receiver/journal/journal.js';
import { RunBuilds } from '../../../receiver/journal/runs.js';
import { Store } from '../../../receiver/store.js';
import { JournalSite } from './journal_site.js';

const FRAME_BYTES = 160;

function frame(firstLsn: bigint, lastLsn = firstLsn): Buffer {
  const bytes = Buffer.alloc(FRAME_BYTES);
  bytes.writeBigUInt64LE(firstLsn, 64);
  bytes.writeBigUInt64LE(lastLsn, 72);
  bytes.writeBigUInt64LE(firstLsn, 80);
  bytes.writeBigUInt64LE(firstLsn, 88);
  return bytes;
}
function segment(firstLsn: bigint, lastLsn: bigint, sealed: boolean): SegmentInfo {
  const times = { firstTimeNs: firstLsn, lastTimeNs: lastLsn, firstEra: 0, lastEra: 0 };
  const size = { frames: 1, records: lastLsn - firstLsn + 1n, rawBytes: 0n, bytes: 8192n, link: 1 };
  return { path: '', generation: 1n, firstLsn, lastLsn, ...times, ...size, sealed };
}

/** A journal whose writer gives these answers, one after the other. */
async function opened(
  test: Test,
  answers: (Appended | Promise<Appended>)[],
): Promise<{ journal: MemberJournal; catalog: Catalog }> {
  const store = await Store.init(path.join(test.testdir(), 'store'), randomUUID());
  const catalog = Catalog.open(store.catalogFile);
  test.teardown(() => catalog.close());
  const group = randomUUID();
  const member: MemberRow = {
    ...{ uuid: randomUUID(), group, host: 'db1', epoch: 1n, instance: Buffer.alloc(16) },
    ...{ owner: null, ackedLsn: 0n, coverage: NOT_COVERED },
  };
  catalog.members.addGroup({ uuid: group, name: 'db' });
  catalog.members.putMember(member);
  await store.createMember(group, member.uuid);
  const writer: JournalWriter = {
    append: () => Promise.resolve(answers.shift() ?? { durableLsn: 0n, changed: [] }),
    resume: () => undefined,
    beginGeneration: () => Promise.reject(new Error('not here')),
    position: () => ({ epoch: 1n, generation: 1n, lastLsn: 0n, link: 0 }),
    close: () => Promise.resolve(),
  };
  const log = pino({ level: 'silent' });
  const journal = await MemberJournal.open(
    {
      ...{ catalog, store, log, segmentBytes: 1n << 26n },
      native: {
        openJournal: () => Promise.resolve(writer),
        scanSegment: () => Promise.reject(new Error('there is none')),
        timeAtLsn: () => Promise.resolve(0n),
        isRunOf: () => Promise.resolve(false),
      },
      headroomBytes: 0n,
      access: new BaseAccess(),
      runs: new RunBuilds({ catalog, store, log, buildRun: () => Promise.resolve() }),
    },
    member,
  );
  return { journal, catalog };
}

t.test(
  'a segment that was sealed while the catalog could not be written is in it as soon as it can',
  async (t) => {
    // The store was full at that moment: the segment's last second was in no tile, and later points were opened without
    // its records and still called `ordered`.
    const { journal, catalog } = await opened(t, [
      { durableLsn: 10n, changed: [segment(1n, 10n, false)] },
      { durableLsn: 21n, changed: [segment(1n, 20n, true), segment(21n, 21n, false)] },
      { durableLsn: 30n, changed: [segment(21n, 30n, false)] },
    ]);
    await journal.append(frame(1n));
    journal.persist();
    const advance = catalog.members.advance.bind(catalog.members);
    catalog.members.advance = () => {
      throw new Error('database or disk is full');
    };
    await t.rejects(journal.append(frame(11n)), { message: 'database or disk is full' });
    // What the disk did not take is known all the same: tiles() had to write, and nothing of a full store was readable.
    const tiles = (): [bigint, bigint][] =>
      journal.tiles(0n, 30n).map((tile) => [tile.segment.firstLsn, tile.segment.lastLsn]);
    t.same(tiles(), [
      [1n, 20n],
      [21n, 21n],
    ]);
    catalog.members.advance = advance;
    await journal.append(frame(22n));
    t.same(tiles(), [
      [1n, 20n],
      [21n, 30n],
    ]);
  },
);

t.test('the eras of a group commit are in the catalog before its first frame is acknowledged', async (t) => {
  // One answer covers all of its frames: a crash behind the first acknowledgement lost where the second one's era began.
  let release: (appended: Appended) => void = () => undefined;
  const held = new Promise<Appended>((resolve) => (release = resolve));
  const { journal, catalog } = await opened(t, [
    { durableLsn: 30n, changed: [segment(1n, 30n, false)] },
    held,
    held,
  ]);
  const later = frame(11n, 20n);
  later.writeUInt32LE(2, 96);
  const latest = frame(21n, 30n);
  latest.writeUInt32LE(3, 96);
  const first = journal.append(frame(1n, 10n));
  const rest = [journal.append(later), journal.append(latest)];
  await first;
  t.match(catalog.eras.eras(journal.member.uuid), [
    { era: 2, firstLsn: 11n, previousTimeNs: 1n },
    { era: 3, firstLsn: 21n, previousTimeNs: 11n },
  ]);
  release({ durableLsn: 30n, changed: [] });
  await Promise.all(rest);
});

t.test('a segment that the catalog could not be told to be damaged goes on being recorded', async (t) => {
  // Symptom: what was acknowledged from then on was in no point until the receiver was started again.
  const site = await JournalSite.create(t);
  await site.write(3);
  const { journal } = site.member;
  journal.persist();
  const row = site.catalog.segments.last(site.row.uuid);
  if (row === null) throw new Error('there is a segment');
  const isFull = () => {
    throw new Error('the disk is full');
  };
  t.throws(() => journal.cut(row, null, isFull), /full/);
  const last = await site.write(2);
  t.equal(journal.tiles(0n, last).at(-1)?.segment.lastLsn, last);
  journal.persist();
  t.equal(site.catalog.segments.last(site.row.uuid)?.lastLsn, last);
  journal.cut(row, null, () => undefined);
  t.same(journal.tiles(0n, last), []);
});
