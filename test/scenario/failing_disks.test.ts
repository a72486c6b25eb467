/**
 * Disks of the protected host that fail: the backing, the state directory with the dirty logs, the spool. An error is the
 * application's only where its own bytes are concerned; whatever else goes wrong it is not kept from writing (R7), and
 * nothing is called equal that is not.
 */
import { mkdir, open, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { FaultDirectory } from '../fault/fault_directory.js';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { nbdUri, Site } from './site.js';
import { writePattern } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'failing';
/** Longer than production waits for a mark (native/capture/dirty_log.h). */
const HANGS_US = 60_000_000;
const MIB = 1 << 20;
const BYTES = 64 * MIB;

/** One command of qemu-io; whether it succeeded. */
async function io(uri: string, words: string): Promise<boolean> {
  const { status } = await command('qemu-io', ['-t', 'writeback', '-f', 'raw', '-c', words, uri], {
    accept: [1],
  });
  return status === 0;
}

/** Recovers the latest point, and compares. */
async function equalAtLast(t: Test, site: Site, backing: string): Promise<void> {
  await site.settled(120);
  t.ok(
    (await site.recovered('disk', 'latest')).equals(await readFile(backing)),
    'replica and backing are equal',
  );
  const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
  t.equal(spans.at(-1)?.grade, 'ordered');
}

t.test('a write that the backing fails, and a flush that fails once and then succeeds', async (t) => {
  const scratch = await Scratch.create('failing-backing');
  t.teardown(() => scratch.clean());
  const disk = await FaultDirectory.start(scratch, 'disk');
  const backing = `${disk.mount}/volume.img`;
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const, cache: 'direct' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes });
  await site.start();
  const uri = nbdUri(await site.settled());
  await writePattern(uri, '0x11');

  await disk.add({ op: 'write', path: '*volume.img', do: 'fail', errno: 'EIO', times: 1 });
  t.notOk(await io(uri, 'write -P 0x22 8M 64k'), 'the application is told that its write failed');
  t.ok(await io(uri, 'write -P 0x33 8M 64k'), 'the next one is served');
  await disk.clear();
  await equalAtLast(t, site, backing);

  // What a disk has lost when it failed a flush nobody knows, whatever it says of the next one.
  await disk.add({ op: 'sync', path: '*volume.img', do: 'fail', errno: 'EIO', times: 1 });
  t.notOk(await io(uri, 'flush'), 'the application is told that its flush failed');
  t.notOk(await io(uri, 'flush'), 'and is not told otherwise by the next one');
  await site.waitFor('told of', 30, ({ detail }) => /BACKING_FAILED.*failed a flush/.test(detail));
  await disk.clear();
  t.equal(await site.agent.stop(), 0);
  await site.agent.start();
  await site.settled(120);
  t.ok(await io(uri, 'flush'), 'opened anew it is believed again');
  await equalAtLast(t, site, backing);
});

/** Ends the agent below its supervisor, and returns when a successor answers. */
async function succeeded(site: Site, signal: NodeJS.Signals): Promise<void> {
  const pid = site.agent.supervisedPid();
  if (pid === null) throw new Error('an agent runs');
  process.kill(pid, signal);
  while ([null, pid].includes(site.agent.supervisedPid())) await sleep(10);
  await site.agent.answers();
}

// Symptom: after a failed flush the agent was killed; its successor opened the backing, flushed it without error, and took
// what the disk had lost off the dirty log. If that returns, the replica holds here what the disk does not.
t.test('a flush that failed is not forgotten by whoever comes next', async (t) => {
  const scratch = await Scratch.create('failed-flush');
  t.teardown(() => scratch.clean());
  const disk = await FaultDirectory.start(scratch, 'disk');
  const backing = `${disk.mount}/volume.img`;
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const, cache: 'direct' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true });
  await site.start();
  const uri = nbdUri(await site.settled());
  await writePattern(uri, '0x11');
  const ways: Record<string, () => Promise<void>> = {
    'it was killed': () => succeeded(site, 'SIGKILL'),
    'it handed over': () => succeeded(site, 'SIGUSR2'),
    'it was stopped': async () => {
      t.equal(await site.agent.stop(), 0);
      await site.agent.start();
    },
  };
  for (const [index, [way, next]] of Object.entries(ways).entries()) {
    const at = 8 + 8 * index;
    await disk.add({ op: 'sync', path: '*volume.img', do: 'fail', errno: 'EIO', times: 1 });
    await io(uri, `write -P 0x22 ${at}M 1M`); // which it flushes when it is done
    await site.waitFor('told of', 30, ({ detail }) => /failed a flush/.test(detail));
    const before = await site.waitFor('replicated', 30, (group) => group.durableLsn === group.capturedLsn);
    await disk.clear();
    // What the disk has is what it had before.
    const file = await open(path.join(disk.backing, 'volume.img'), 'r+');
    await file.write(Buffer.alloc(MIB), 0, MIB, at * MIB);
    await file.close();
    await next();
    const after = await site.settled(120);
    t.ok(BigInt(after.generation) > BigInt(before.generation), `${way}: what is in doubt is compared`);
    t.notMatch(after.detail, /failed a flush/);
    t.ok(await io(uri, 'flush'), 'opened anew it is believed again');
    await equalAtLast(t, site, backing);
  }
});

/** A site whose state directory can be made to fail; nothing is started. */
async function faultyState(t: Test, name: string, more: { ringBytes?: string; supervised?: boolean } = {}) {
  const scratch = await Scratch.create(name);
  t.teardown(() => scratch.clean());
  const state = await FaultDirectory.start(scratch, 'state');
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes, state: state.mount, ...more });
  return { site, state, backing };
}

const CHANGES = ['write', 'unlink', 'create', 'truncate', 'rename'] as const;

/**
 * A state directory whose file system turned read-only while the receiver was away and production wrote, more than the ring
 * holds, where nothing was marked.
 */
async function readOnlyState(t: Test, name: string, supervised: boolean) {
  const { site, state, backing } = await faultyState(t, name, { ringBytes: '8MiB', supervised });
  await site.start();
  await writePattern(nbdUri(await site.settled()), '0x11');
  t.equal(await site.agent.stop(), 0);
  await site.agent.start();
  const ready = await site.settled();
  t.equal(ready.volumes[0]?.doubtBytes, 0);
  await site.receiver.stop();
  for (const op of CHANGES) await state.add({ op, path: '*/dirty/*', do: 'fail', errno: 'EROFS' });
  // Away from the samples that a partial resync looks at.
  for (let megabyte = 1; megabyte < 60; megabyte += 8)
    await command('qemu-io', ['-f', 'raw', '-c', `write -P 0x5a ${megabyte}M 2M`, nbdUri(ready)]);
  await site.waitFor('tracking', 30, (group) => group.state === 'tracking');
  const told = await site.waitFor('told of', 30, ({ detail }) => /takes no changes/.test(detail));
  t.match(told.detail, /volume disk must be verified/);
  return { site, state, backing };
}

t.test('a dirty log that can be neither written nor removed, and its agent is killed', async (t) => {
  const { site, state, backing } = await readOnlyState(t, 'read-only-killed', true);
  await succeeded(site, 'SIGKILL');
  await site.waitFor('told of by the successor', 30, ({ detail }) => /takes no changes/.test(detail));
  await site.receiver.start();
  t.equal((await site.settled(120)).volumes[0]?.resyncComparedBytes, BYTES, 'all of it is compared');
  await equalAtLast(t, site, backing);
  // Back again before anybody else has to be told.
  await state.clear();
  await site.waitFor('no longer', 30, ({ detail }) => !detail.includes('takes no changes'));
  t.same(await readdir(path.join(state.backing, 'dirty')), []);
});

t.test('a dirty log that could be removed only later, before its host was lost', async (t) => {
  const { site, state, backing } = await readOnlyState(t, 'read-only-lost', false);
  await state.clear();
  await site.waitFor('no longer', 30, ({ detail }) => !detail.includes('takes no changes'));
  await site.agent.kill();
  await site.receiver.start();
  await site.agent.start();
  t.equal((await site.settled(120)).volumes[0]?.resyncComparedBytes, BYTES, 'all of it is compared');
  await equalAtLast(t, site, backing);
});

// Symptom (review): a stop waited for ever, and did not say for what.
t.test('a dirty log that can be neither written nor removed, and its agent is stopped', async (t) => {
  const { site, state, backing } = await readOnlyState(t, 'read-only-stopped', false);
  site.agent.signal('SIGTERM');
  await site.agent.tells(/a second signal gives it up/);
  t.ok(site.agent.running, 'it waits for somebody who knows');
  await site.receiver.start();
  t.equal(await site.agent.ends(120), 0, 'that the receiver does is enough');
  await state.clear();
  await site.agent.start();
  t.equal((await site.settled(120)).volumes[0]?.resyncComparedBytes, BYTES, 'all of it is compared');
  await equalAtLast(t, site, backing);
});

// Symptom (review): its start never ended, also when the file system was well again.
t.test('a state directory that is read-only before the agent starts', async (t) => {
  const { site, state, backing } = await faultyState(t, 'read-only-before');
  await site.start();
  await writePattern(nbdUri(await site.settled()), '0x11');
  t.equal(await site.agent.stop(), 0);
  for (const op of CHANGES) await state.add({ op, path: '*', do: 'fail', errno: 'EROFS' });
  // A file system like that lets nobody open a file for writing.
  await state.add({ op: 'read', path: '*/dirty/*', do: 'fail', errno: 'EROFS' });
  await t.rejects(site.agent.start(), /ended while starting/);
  await state.clear();
  await site.agent.start();
  await equalAtLast(t, site, backing);
});

t.test('a dirty log that cannot be written', async (t) => {
  const { site, state, backing } = await faultyState(t, 'failing-log');
  await site.start();
  const before = await site.settled();
  const uri = nbdUri(before);
  await writePattern(uri, '0x11');
  await site.waitFor('all is unmarked', 120, (group) => group.volumes[0]?.doubtBytes === 0);

  const rule = await state.add({ op: 'write', path: '*/dirty/*', do: 'fail', errno: 'EIO' });
  // Extents that were never marked: each would have to be first.
  for (let megabyte = 12; megabyte < 40; megabyte += 4) await writePattern(uri, '0x22', megabyte);
  t.ok(
    (await state.report()).some(({ id, struck }) => id === rule && struck > 0),
    'the log failed',
  );
  await site.waitFor('told of', 30, ({ detail }) => /dirty log of volume disk is void/.test(detail));
  await site.agent.tells(/the dirty log of volume disk.*is void/);
  await equalAtLast(t, site, backing);
  t.equal((await site.agentGroup()).generation, before.generation, 'the stream does not need the log');

  // Nobody knows from this log what is in doubt, so that all of it is.
  await site.agent.kill();
  await state.clear();
  await site.agent.start();
  const [volume] = (await site.settled(120)).volumes;
  t.equal(volume?.resyncComparedBytes, BYTES, 'all of it was compared');
  await equalAtLast(t, site, backing);
});

t.test('a dirty log whose disk does not answer', async (t) => {
  const { site, state, backing } = await faultyState(t, 'hanging-log');
  await site.start();
  const before = await site.settled();
  const uri = nbdUri(before);
  await site.waitFor('all is unmarked', 120, (group) => group.volumes[0]?.doubtBytes === 0);

  await state.add({ op: 'sync', path: '*/dirty/*', do: 'delay', us: HANGS_US, times: 1 });
  await writePattern(uri, '0x22', 12);
  // As long as this is said the disk has not answered.
  const told = await site.waitFor('told of', 5, ({ detail }) => /takes no changes/.test(detail));
  t.match(told.detail, /does not answer/);
  await writePattern(uri, '0x33', 40);
  await site.waitFor('withdrawn', 120, ({ detail }) => !detail.includes('takes no changes'));
  t.same(await readdir(path.join(state.backing, 'dirty')), []);
  await equalAtLast(t, site, backing);
  t.equal((await site.agentGroup()).generation, before.generation, 'the stream does not need the log');
});

t.test('a spool whose disk is full before its bound', async (t) => {
  const scratch = await Scratch.create('full-spool');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const spool = scratch.path('state', 'spool');
  await mkdir(spool, { recursive: true });
  await command('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', spool]);
  scratch.defer('small disk', () => command('umount', [spool]));
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const }];
  const groupLines = ['spool_bytes_max = "1GiB"'];
  const site = await Site.create(scratch, { group: GROUP, volumes, ringBytes: '8MiB', groupLines });
  await site.start();
  const before = await site.settled();
  const uri = nbdUri(before);
  await site.receiver.stop();
  await command('fio', [
    ...['--name=fill', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=64k', '--iodepth=4'],
    ...['--io_size=48M', `--size=${BYTES}`, '--refill_buffers', '--randseed=5'],
  ]);
  const full = await site.waitFor('tracking', 30, ({ state }) => state === 'tracking');
  t.match(full.detail, /SPOOL_(FULL|IO)/);
  await site.receiver.start();
  await equalAtLast(t, site, backing);
  t.ok(BigInt((await site.agentGroup()).generation) > BigInt(before.generation));

  // With the disk as full as it was left, or empty again: the next outage is bridged.
  const again = await site.settled();
  await site.receiver.stop();
  await writePattern(uri, '0x55', 4);
  await site.receiver.start();
  await equalAtLast(t, site, backing);
  t.equal((await site.agentGroup()).generation, again.generation, 'a short outage is no gap');
});
