import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { truncate, readdir, readFile, stat, symlink, writeFile, open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { formatTime } from '../../proto/time.js';
import type { Hello } from '../../proto/replication.js';
import { formatUuid } from '../../proto/uuid.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import type { RunningReceiver } from './running_receiver.js';
import { ScriptedStream } from './scripted_agent.js';
import {
  exportOf,
  grades,
  journalDirectory,
  lastSegment,
  offsetOf,
  recovered,
  resync,
  ringFull,
  SIZE,
  synced,
  writeMore,
} from './synced_scene.js';

const run = promisify(execFile);
const KIB = 1024;
const MIB = 1024 * KIB;
/** Of one receiver at once: receiver/exports.ts. */
const EXPORTS_MAX = 64;

t.test('any write of the history comes back, recovered and exported alike', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const lsns = await writeMore(scene, 60);
  for (const lsn of [lsns[0], lsns[29], lsns[59]]) {
    const state = agent.states.get(lsn ?? 0n);
    const target = path.join(receiver.directory, `out-${lsn}`);
    const messages = await receiver.recover({ point: `lsn:${lsn}`, target });
    const bytes = await readFile(target);
    t.ok(state?.equals(bytes), `LSN ${lsn}`);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    t.match(messages.at(-1), { phase: 'done', lsn, sha256, bytesDone: BigInt(SIZE) });
    const opened = await receiver.call('exportOpen', {
      group: 'db',
      point: `lsn:${lsn}`,
      writable: false,
      socket: '',
      tcp: '',
      device: false,
      volumes: [],
      force: false,
    });
    const copy = `${target}.nbd`;
    await run('nbdcopy', [opened.volumes[0]?.uri ?? '', copy]);
    t.ok(bytes.equals(await readFile(copy)), 'an NBD client sees the same');
    await receiver.call('exportClose', { id: opened.id });
  }
  t.same((await receiver.call('exportList', {})).exports, []);
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
  t.match(await receiver.status(), {
    groups: [{ name: 'db', host: 'host1', state: 'protected', durableLsn: lsns[59], detail: '' }],
  });
});

t.test('a writable export changes nothing but itself', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const request = { group: 'db', point: 'latest', socket: '', tcp: '127.0.0.1:0', device: false };
  const opened = await receiver.call('exportOpen', {
    ...request,
    writable: true,
    volumes: ['data'],
    force: false,
  });
  const uri = opened.volumes[0]?.uri ?? '';
  const file = path.join(receiver.directory, 'new');
  await writeFile(file, randomBytes(SIZE));
  await run('nbdcopy', [file, uri]);
  await run('nbdcopy', [uri, `${file}.back`]);
  t.ok((await readFile(file)).equals(await readFile(`${file}.back`)));
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
});

t.test('a point by time holds what was there, and only while it is known', async (t) => {
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  const before = agent.present;
  const { timeNs } = agent.position();
  await writeMore(scene, 5);
  t.ok(before.equals(await recovered(scene, formatTime(timeNs))));
  const nowNs = BigInt(Date.now()) * 1_000_000n + 3_600_000_000_000n;
  const point = formatTime(nowNs - 1n);
  await t.rejects(receiver.call('point', { group: 'db', point }), { code: 'POINT_UNKNOWN' });
  const { lsn, timeNs: capturedTimeNs } = agent.position();
  const heartbeat = {
    shippedLsn: lsn,
    oldestTimeNs: 0n,
    ringUsedBytes: 0n,
    ringBytes: 1n,
    state: 'protected',
    logs: [],
  };
  stream.say({ heartbeat: { capturedLsn: lsn, capturedTimeNs, nowNs, ...heartbeat } });
  // Nothing answers a heartbeat in particular: an operator asks until it is known.
  let found = null;
  for (let tries = 0; found === null && tries < 500; tries += 1) {
    found = await receiver.call('point', { group: 'db', point }).catch(() => sleep(10, null));
  }
  t.match(found, { lsn, grade: 'ordered' });
});

t.test('a frame that changed on the way is refused and leaves the journal as it was', async (t) => {
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  const [last = 0n] = (await writeMore(scene, 10)).slice(-1);
  const segment = await lastSegment(scene);
  const before = await readFile(segment);
  await agent.write(0, randomBytes(64 * KIB));
  const frames = await agent.framesUpTo(agent.position().lsn);
  const bad = Buffer.from(frames[0] ?? Buffer.alloc(0));
  bad.writeUInt8(bad.readUInt8(bad.length - 100) ^ 1, bad.length - 100);
  stream.ship(bad);
  t.match(await stream.hear('refused'), { code: 'FRAME_CORRUPT', retryable: true });
  await stream.ended();
  t.ok(before.equals(await readFile(segment)), 'not a byte was written');

  const again = new ScriptedStream(receiver.address);
  t.teardown(() => again.close());
  again.say({ hello: agent.hello({ generation: 1n, durableLsn: last, continuous: true }) });
  t.match(await again.hear('welcome'), { generation: 1n, durableLsn: last });
  for (const frame of frames) again.ship(frame);
  await again.hearAck(agent.position().lsn);
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
});

t.test('a writer that was replaced is fenced, and a copy of the living one too', async (t) => {
  const { receiver, agent, stream } = await synced(t);
  const copy = new ScriptedStream(receiver.address);
  t.teardown(() => copy.close());
  copy.say({ hello: agent.hello({ instance: randomBytes(16) }) });
  t.match(await copy.hear('refused'), { code: 'FENCED', retryable: false });
  const successor = new ScriptedStream(receiver.address);
  t.teardown(() => successor.close());
  successor.say({ hello: agent.hello({ epoch: 2n, instance: randomBytes(16) }) });
  t.match(await stream.hear('refused'), { code: 'FENCED' });
  t.match(await successor.hear('welcome'), { generation: 1n });
  const late = new ScriptedStream(receiver.address);
  t.teardown(() => late.close());
  late.say({ hello: agent.hello() });
  t.match(await late.hear('refused'), { code: 'FENCED' });
});

t.test(
  'a torn tail after a crash is cut: everything acknowledged is there, and the stream goes on',
  async (t) => {
    const scene = await synced(t);
    const { receiver, agent } = scene;
    const [last = 0n] = (await writeMore(scene, 20)).slice(-1);
    const state = agent.present;
    await agent.write(0, randomBytes(64 * KIB));
    const [frame = Buffer.alloc(0)] = await agent.framesUpTo(agent.position().lsn);
    await receiver.stop();
    const segment = await open(await lastSegment(scene), 'r+');
    const end = await usedBytes(segment);
    await segment.write(frame.subarray(0, frame.length - 512), 0, frame.length - 512, end);
    await segment.close();
    await receiver.run();
    t.match(await receiver.status(), { groups: [{ durableLsn: last, state: 'disconnected' }] });
    t.ok(state.equals(await recovered(scene, 'latest')));

    const stream = new ScriptedStream(receiver.address);
    t.teardown(() => stream.close());
    stream.say({ hello: agent.hello({ generation: 1n, durableLsn: last, continuous: true }) });
    t.match(await stream.hear('welcome'), { generation: 1n, durableLsn: last });
    stream.ship(frame);
    await stream.hearAck(agent.position().lsn);
    t.ok(agent.present.equals(await recovered(scene, 'latest')));
  },
);

t.test('an acknowledged frame that rots is damage: named, refused, and healed by a resync', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const lsns = await writeMore(scene, 10);
  const intact = lsns[9] ?? 0n;
  const state = agent.present;
  await writeMore(scene, 10);
  const last = agent.position().lsn;
  await receiver.stop();
  const file = await lastSegment(scene);
  const bytes = await readFile(file);
  const at = offsetOf(bytes, intact + 1n);
  bytes.writeUInt8(bytes.readUInt8(at + 200) ^ 0xff, at + 200);
  await writeFile(file, bytes);
  await receiver.run();
  t.match((await grades(scene)).slice(-3), [
    new RegExp(`^ordered \\d+-${intact}$`),
    `damaged ${intact + 1n}-${last}`,
    'gap 0-0',
  ]);
  t.ok(state.equals(await recovered(scene, 'latest')), 'latest is the last one that is whole');
  await t.rejects(receiver.call('exportOpen', exportOf(`lsn:${last}`)), { code: 'POINT_GRADE' });
  const lostNs = agent.position().timeNs;

  const different = await resync(t, scene, last);
  t.ok(different > 0 && different <= 10, `${different} blocks differ`);
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
  t.ok(state.equals(await recovered(scene, `lsn:${intact}`)), 'what was whole before stays recoverable');
  // The era goes on in the new generation: the instants of what was lost were taken for time after the last whole record.
  for (const timeNs of [lostNs, lostNs + 1n]) {
    await t.rejects(receiver.call('exportOpen', exportOf(formatTime(timeNs))), { code: 'POINT_GRADE' });
  }
});

t.test(
  'half of an old segment is lost: what follows is kept, and points after the resync are whole',
  async (t) => {
    const scene = await synced(t);
    const { receiver, agent, stream } = scene;
    for (let index = 0; index < 100; index += 1)
      await agent.write((index % 64) * 64 * KIB, randomBytes(64 * KIB));
    const last = agent.position().lsn;
    for (const frame of await agent.framesUpTo(last)) stream.ship(frame);
    await stream.hearAck(last);
    await receiver.stop();
    const [first = ''] = (await readdir(journalDirectory(scene))).sort();
    await truncate(path.join(journalDirectory(scene), first.replace('.run', '.seg')), 2 * MIB);
    await receiver.run();
    const spans = await grades(scene);
    t.match(spans.slice(-3), [/^ordered/, new RegExp(`^damaged \\d+-${last}$`), 'gap 0-0']);
    await resync(t, scene, last);
    t.ok(agent.present.equals(await recovered(scene, 'latest')));
    await receiver.stop();
    await receiver.run();
    t.ok(agent.present.equals(await recovered(scene, 'latest')), 'damage that is known is not found again');
    t.match((await grades(scene)).at(-1), /^ordered/);
  },
);

t.test('a receiver restarted before the first record of a generation misses nothing', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const [last = 0n] = (await writeMore(scene, 10)).slice(-1);
  const epoch = agent.identity.epoch + 1n;
  const instance = randomBytes(16);
  const stream = new ScriptedStream(receiver.address);
  t.teardown(() => stream.close());
  stream.say({ hello: agent.hello({ epoch, instance, generation: 0n, durableLsn: 0n }) });
  await stream.hear('welcome');
  // As after a crash: above every number that may have been used.
  const firstLsn = last + 1000n;
  const volumes = [agent.info];
  stream.say({ generationBegin: { generation: 2n, firstLsn, reason: 'AGENT_RESTARTED', volumes } });
  await stream.hear('generationAccepted');
  await receiver.stop();
  await receiver.run();
  const again = new ScriptedStream(receiver.address);
  t.teardown(() => again.close());
  again.say({ hello: agent.hello({ epoch, instance, generation: 2n, durableLsn: firstLsn - 1n }) });
  t.match(await again.hear('welcome'), { generation: 2n, durableLsn: firstLsn - 1n, ended: false });
  t.notMatch((await grades(scene)).join(), /damaged/);
});

t.test('the ring was full: a gap, and every point before it stays', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const [last = 0n] = (await writeMore(scene, 10)).slice(-1);
  const state = agent.present;
  const { firstLsn, endNs } = await ringFull(scene, last);
  t.match((await grades(scene)).slice(-3), [
    new RegExp(`^ordered \\d+-${last}$`),
    'gap 0-0',
    `syncing ${firstLsn}-${firstLsn - 1n}`,
  ]);
  const inTheGap = exportOf(formatTime(endNs + 1n));
  await t.rejects(receiver.call('exportOpen', inTheGap), { code: 'POINT_GRADE' });
  t.ok(state.equals(await recovered(scene, 'latest')));
  // The clock's era goes on in the new generation: the gap was taken for time after the old one's last record.
  agent.begin(2n, firstLsn);
  await writeMore(scene, 2);
  await t.rejects(receiver.call('exportOpen', inTheGap), { code: 'POINT_GRADE' });
});

t.test('a checkpoint asked for here is marked by the agent and kept', async (t) => {
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  await writeMore(scene, 3);
  const state = agent.present;
  const asked = receiver.call('checkpointCreate', {
    group: 'db',
    name: 'before-upgrade',
    pin: false,
    lockUntilNs: 0n,
  });
  const { requestId, name } = await stream.hear('checkpointRequest');
  stream.say({ checkpoint: { requestId, name, ...agent.position() } });
  t.match(await asked, { name: 'before-upgrade', lsn: agent.position().lsn, grade: 'ordered' });
  await writeMore(scene, 3);
  t.ok(state.equals(await recovered(scene, 'checkpoint:before-upgrade')));
  const again = receiver.call('checkpointCreate', {
    group: 'db',
    name: 'before-upgrade',
    pin: false,
    lockUntilNs: 0n,
  });
  const second = await stream.hear('checkpointRequest');
  stream.say({ checkpoint: { ...second, ...agent.position() } });
  await t.rejects(again, { code: 'CHECKPOINT_EXISTS' });
  stream.close();
  await t.rejects(
    async () => {
      for (;;)
        await receiver.call('checkpointCreate', { group: 'db', name: 'later', pin: false, lockUntilNs: 0n });
    },
    { code: /AGENT_AWAY|SESSION_LOST/ },
  );
});

const skip = skipUnless(isRoot, 'root, for loop devices');
t.test('an export as a device: in use it stays, and it goes when it is free', { skip }, async (t) => {
  const { receiver, agent } = await synced(t);
  const opened = await receiver.call('exportOpen', { ...exportOf('latest'), device: true });
  const device = opened.volumes[0]?.device ?? '';
  t.match(device, /^\/dev\/loop\d+$/);
  t.ok(agent.present.equals(await readFile(device)));
  const held = await open(device, 'r');
  await t.rejects(receiver.call('exportClose', { id: opened.id }), { code: 'EXPORT_BUSY' });
  t.match(await receiver.call('exportList', {}), { exports: [{ id: opened.id }] });
  await held.close();
  await receiver.call('exportClose', { id: opened.id });
  t.same(await readdir(path.join(receiver.directory, 'run')), ['receiver.sock']);
});

t.test('a target that is in use as a loop device is not overwritten under its users', { skip }, async (t) => {
  const { receiver } = await synced(t);
  const target = path.join(receiver.directory, 'mounted.img');
  await receiver.recover({ target });
  const { stdout } = await run('losetup', ['--find', '--show', target]);
  t.teardown(() => run('losetup', ['-d', stdout.trim()]));
  await t.rejects(receiver.recover({ target, overwrite: true }), {
    code: 'TARGET_BUSY',
    message: new RegExp(stdout.trim()),
  });
});

t.test('an export that is closed twice at once, and one whose caller goes while it opens', async (t) => {
  const { receiver } = await synced(t);
  const { id } = await receiver.call('exportOpen', exportOf('latest'));
  await Promise.all([receiver.call('exportClose', { id }), receiver.call('exportClose', { id })]);
  await t.rejects(receiver.call('exportClose', { id }), { code: 'EXPORT_UNKNOWN' });
  const gone = new AbortController();
  const opening = receiver.call('exportOpen', exportOf('latest'), gone.signal);
  setImmediate(() => gone.abort());
  await opening.catch(() => undefined);
  const deadline = Date.now() + 10_000;
  while ((await receiver.call('exportList', {})).exports.length > 0) {
    if (Date.now() > deadline) throw new Error('it is open, and nobody knows of it');
    await sleep(20);
  }
});

t.test('one export more than may be open at once is refused, until another is closed', async (t) => {
  const { receiver } = await synced(t);
  const ids: string[] = [];
  while (ids.length < EXPORTS_MAX) ids.push((await receiver.call('exportOpen', exportOf('latest'))).id);
  await t.rejects(receiver.call('exportOpen', exportOf('latest')), {
    code: 'EXPORT_LIMIT',
    message: new RegExp(String(EXPORTS_MAX)),
  });
  t.equal(
    (await receiver.call('exportList', {})).exports.length,
    EXPORTS_MAX,
    'and those that are open stay',
  );
  await receiver.call('exportClose', { id: ids[0] ?? '' });
  await receiver.call('exportOpen', exportOf('latest'));
});

t.test('a group without its agent, and volumes that are not what they were', async (t) => {
  const { receiver, agent } = await synced(t);
  const cases: [Partial<Hello>, string][] = [
    [{ groupName: '../escape' }, 'MESSAGE_INVALID'],
    [{ group: randomBytes(16) }, 'GROUP_MISMATCH'],
    [{ groupName: 'other' }, 'GROUP_MISMATCH'],
    [{ volumes: [{ ...agent.info, size: BigInt(SIZE / 2) }] }, 'VOLUME_MISMATCH'],
    [{ volumes: [{ ...agent.info, number: 1 }] }, 'VOLUME_MISMATCH'],
    [{ volumes: [{ ...agent.info, uuid: randomBytes(16) }] }, 'VOLUME_MISMATCH'],
    [{ volumes: [{ ...agent.info, name: 'a/b' }] }, 'MESSAGE_INVALID'],
  ];
  for (const [change, code] of cases) {
    const stream = new ScriptedStream(receiver.address);
    stream.say({ hello: agent.hello({ epoch: 9n, ...change }) });
    t.match(await stream.hear('refused'), { code }, code);
    stream.close();
  }
  t.match(await receiver.status(), { groups: [{ state: 'protected' }] }, 'the agent is none the worse');
});

t.test('what cannot be had, each with its code', async (t) => {
  const scene = await synced(t);
  const { receiver } = scene;
  const [last = 0n] = (await writeMore(scene, 2)).slice(-1);
  const target = path.join(receiver.directory, 'out');
  const cases: [Parameters<RunningReceiver['recover']>[0], string][] = [
    [{ group: 'other', target }, 'GROUP_UNKNOWN'],
    [{ volume: 'logs', target }, 'VOLUME_UNKNOWN'],
    [{ point: 'soon', target }, 'POINT_INVALID'],
    [{ point: `lsn:${last + 1n}`, target }, 'POINT_UNKNOWN'],
    [{ point: 'lsn:1', target }, 'POINT_GRADE'],
    [{ point: '-2h', target }, 'POINT_UNKNOWN'],
    [{ point: 'checkpoint:none', target }, 'CHECKPOINT_UNKNOWN'],
    [{ target: 'relative' }, 'TARGET_INVALID'],
    [{ target: receiver.directory }, 'TARGET_INVALID'],
    [{ target: path.join(receiver.store, 'x') }, 'TARGET_INVALID'],
    [{ target: path.join(receiver.directory, 'no/such/file') }, 'TARGET_INVALID'],
    [{ volume: '', target: receiver.directory }, 'TARGET_NOT_EMPTY'],
  ];
  for (const [request, code] of cases) await t.rejects(receiver.recover(request), { code }, code);
  await writeFile(target, 'mine');
  await t.rejects(receiver.recover({ target }), { code: 'TARGET_NOT_EMPTY' });
  t.equal(await readFile(target, 'utf8'), 'mine');
  await receiver.recover({ target, overwrite: true });
  t.equal((await stat(target)).size, SIZE);
  const directory = path.join(receiver.directory, 'group');
  await receiver.recover({ volume: '', target: directory });
  t.same(await readdir(directory), ['data.img'], 'nothing is left beside it');
});

t.test('links that lead into the store are no way to overwrite what is recovered from', async (t) => {
  // The directory of the link was checked, the file behind it was not: `--yes` emptied the base image.
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const base = path.join(journalDirectory(scene), '../base', `${formatUuid(agent.info.uuid)}.img`);
  const before = await readFile(base);
  const link = path.join(receiver.directory, 'innocent.img');
  await symlink(base, link);
  const request = { target: link, overwrite: true };
  await t.rejects(receiver.recover(request), { code: 'TARGET_INVALID' });
  t.ok(before.equals(await readFile(base)));
  const inStore = path.join(receiver.store, 'made/here');
  await t.rejects(receiver.recover({ volume: '', target: inStore }), { code: 'TARGET_INVALID' });
  await t.rejects(stat(path.dirname(inStore)), { code: 'ENOENT' }, 'not even a directory is left there');
  const dangling = path.join(receiver.directory, 'dangling');
  await symlink('nowhere/at/all', dangling);
  await t.rejects(receiver.recover({ target: dangling }), { code: 'TARGET_INVALID' });
});

/** Where the used bytes of a segment end. */
async function usedBytes(file: Awaited<ReturnType<typeof open>>): Promise<number> {
  const bytes = await file.readFile();
  let at = 4096;
  while (bytes.toString('latin1', at, at + 8) === 'AFTFRAME') at += bytes.readUInt32LE(at + 120);
  return at;
}
