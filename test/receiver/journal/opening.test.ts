/** A journal that is opened after something went wrong. */
import { open, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import * as native from '../../../native/index.js';
import { BaseAccess } from '../../../receiver/base_access.js';
import { MessageMemory } from '../../../service/message_assembly.js';
import { alignedFrame } from '../../../receiver/aligned_frame.js';
import { Points } from '../../../receiver/points.js';
import { SessionWork } from '../../../receiver/session_work.js';
import { offsetOf } from '../synced_scene.js';
import { addOther, JournalSite } from './journal_site.js';

function sessionWork(site: JournalSite): SessionWork {
  const { catalog, store, sessions, members } = site;
  const access = new BaseAccess();
  const points = new Points({ catalog, store, native, journals: members, access, nowNs: () => 1n });
  const parts = {
    catalog,
    store,
    sessions,
    points,
    access,
    baseDamage: { compared: () => undefined },
    room: { check: () => Promise.resolve() },
    memory: new MessageMemory(),
    native,
    log: site.parts.log,
  };
  return new SessionWork(parts, site.agent.hello(), site.member, Buffer.alloc(32));
}

t.test('a generation that the journal refuses keeps nobody else from being served', async (t) => {
  // The catalog had taken a volume in blocks of 1024; at each start the journal refused the generation anew, uncaught.
  const site = await JournalSite.create(t);
  const last = await site.write(3);
  site.begin(2n, last + 100n, last);
  const database = new Database(site.store.catalogFile);
  t.teardown(() => database.close());
  database.exec('UPDATE volumes SET block_size = 1024');
  await site.reopen();
  t.equal(site.member.journal.durableLsn, last, 'what is there can be recovered');
  await t.rejects(sessionWork(site).position(1n), { code: 'RECORD_INVALID' }, 'the session is told why');

  database.exec('UPDATE volumes SET block_size = 512');
  const position = await sessionWork(site).position(1n);
  t.match(position, { generation: 2n, firstLsn: last + 100n, durableLsn: last + 99n, link: 0, ended: false });
  t.equal(site.member.journal.generation, 2n, 'it was begun');
});

t.test('a journal that cannot be opened takes no other with it, and no point of it is guessed', async (t) => {
  const site = await JournalSite.create(t);
  const last = await site.write(3);
  const other = addOther(site);
  await site.reopen(async () => {
    const [segment = ''] = await site.files('.seg');
    await site.store.createMember(site.row.group, site.row.uuid);
    const file = await open(segment, 'r+');
    const header = Buffer.alloc(4096);
    await file.read(header, 0, 4096, 0);
    header.writeUInt16LE(9, 8);
    header.writeUInt32LE(native.crc32c(header.subarray(0, 4092)), 4092);
    await file.write(header, 0, 4096, 0);
    await file.close();
  });
  const { members, row } = site;
  t.equal(members.get(row.uuid), null);
  t.equal(members.fault(row.uuid), 'SEGMENT_VERSION');
  t.ok(members.get(other.uuid), 'the other group is served');
  t.throws(() => members.tiles(row.uuid, 0n, last), { code: 'SEGMENT_VERSION' }, 'not the bare base');
  t.throws(() => members.refresh(row.uuid), { code: 'SEGMENT_VERSION' });
  await t.rejects(members.open(row), { code: 'SEGMENT_VERSION' }, 'and so are its sessions');
  t.same(members.tiles(other.uuid, 0n, 1n), []);
});

/** Changes a byte of the frame that begins with `lsn`, in a segment that must then be read in full. */
async function hurt(file: string, lsn: bigint): Promise<void> {
  const bytes = await readFile(file);
  const at = offsetOf(bytes, lsn) + 200;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0xff, at);
  await writeFile(file, bytes);
  await rm(file.replace('.seg', '.run'), { force: true });
}
async function until(claim: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 10_000; !(await claim()); await sleep(10)) {
    if (Date.now() > deadline) throw new Error('it never came');
  }
}

t.test(
  'a generation that was interrupted before its first frame: the segment before it gets its run',
  async (t) => {
    // The answer of beginGeneration was dropped: the segment stayed unsealed, and without a run, until the next start.
    const site = await JournalSite.create(t);
    const last = await site.write(3);
    site.begin(2n, last + 100n, last);
    await site.reopen();
    const rows = () => site.catalog.segments.segments(site.row.uuid);
    await until(() => Promise.resolve(rows().at(0)?.hasRun === true));
    t.match(rows(), [{ firstLsn: 1n, sealed: true }]);
  },
);

t.test('a run that is damaged, or of another segment, is built again', async (t) => {
  const site = await JournalSite.create(t);
  await site.write(70);
  await until(async () => (await site.files('.run')).length === 1);
  const [run = ''] = await site.files('.run');
  const before = await readFile(run);
  await site.reopen(() => writeFile(run, Buffer.concat([before.subarray(0, 100), before.subarray(101)])));
  await until(async () => before.equals(await readFile(run)));
  t.pass('as it was');
});

t.test('damage that grows next to damage that is known', async (t) => {
  // The hole began where the known one did: it was taken for the same, and what was lost since stayed `ordered`.
  const site = await JournalSite.create(t);
  const last = await site.write(70);
  const [first = '', second = ''] = await site.files('.seg');
  const { uuid } = site.row;
  const [segment] = site.catalog.segments.segments(uuid);
  const end = segment?.lastLsn ?? 0n;
  await site.reopen(() => hurt(first, 9n));
  const known = { firstLsn: 9n, lastLsn: end, foundGeneration: 1n };
  t.match(site.catalog.damage.damage(uuid), [known]);
  site.begin(2n, last + 1n, last);
  await site.reopen(() => unlink(second));
  const grown = { firstLsn: end + 1n, lastLsn: last, foundGeneration: 2n };
  t.match(site.catalog.damage.damage(uuid), [known, grown]);
  await site.reopen(() => hurt(first, 5n));
  const earlier = { firstLsn: 5n, lastLsn: 8n, foundGeneration: 2n };
  t.match(site.catalog.damage.damage(uuid), [earlier, known, grown]);
  await site.reopen();
  t.equal(site.catalog.damage.damage(uuid).length, 3, 'what is known is not found again');
});

t.test('damage, and a generation without a segment: the tail is of the one before', async (t) => {
  const site = await JournalSite.create(t);
  const last = await site.write(70);
  const [first = ''] = await site.files('.seg');
  site.begin(2n, last + 1n, last);
  await site.reopen(() => unlink(first));
  t.match(site.member.journal, { durableLsn: last, generation: 2n });
  t.match(site.catalog.generations.newest(site.row.uuid), { generation: 2n, endReason: 'SEGMENT_CORRUPT' });
});

t.test('an era that the catalog never heard of begins with its first frame', async (t) => {
  // It was taken to begin behind what was known to be acknowledged, up to a second earlier.
  const site = await JournalSite.create(t);
  const { journal } = site.member;
  await site.write(1);
  journal.persist();
  await site.write(1);
  const previousTimeNs = await journal.timeAt(site.agent.position().lsn);
  const lsn = await site.agent.write(0, Buffer.alloc(512));
  const [frame = Buffer.alloc(0)] = await site.agent.framesUpTo(lsn);
  // Made what announces an era: its one record, a zero without payload, becomes a clock record.
  frame.writeUInt32LE(2, 96);
  frame.writeUInt8(5, 160);
  frame.fill(0, 162, 176);
  frame.writeUInt32LE(native.crc32c(frame.subarray(160, 192)), 128);
  frame.writeUInt32LE(native.crc32c(frame.subarray(0, 156)), 156);
  journal.persist = () => undefined;
  await journal.append(alignedFrame(frame));
  await site.reopen();
  const eras = site.catalog.eras.eras(site.row.uuid);
  t.match(eras, [
    { era: 1, firstLsn: 1n, previousTimeNs: 0n },
    { era: 2, firstLsn: lsn, firstTimeNs: frame.readBigUInt64LE(80), previousTimeNs },
  ]);
});

t.test('a member whose positions cannot be written keeps no other from it', async (t) => {
  // One heartbeat with a time from 2^63 on was refused by the catalog at every second, and ended the round.
  const site = await JournalSite.create(t);
  const last = await site.write(2);
  const other = addOther(site);
  const { journal } = await site.members.open(other);
  t.throws(() => journal.noteCoverage({ lsn: 0n, timeNs: 2n ** 63n }), { code: 'MESSAGE_INVALID' });
  const persist = site.member.journal.persist.bind(site.member.journal);
  site.member.journal.persist = () => {
    throw new Error('datatype mismatch');
  };
  journal.noteCoverage({ lsn: 0n, timeNs: 7n });
  site.members.refreshAll();
  t.equal(site.catalog.members.member(other.uuid)?.coverage.timeNs, 7n);
  site.member.journal.persist = persist;
  site.members.refreshAll();
  t.equal(site.row.ackedLsn, last);
});
