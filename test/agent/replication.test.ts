/** An agent with the real addon against a small receiver: what the host wrote is what the journal replays to. */
import { randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { VolumeConfig } from '../../agent/config.js';
import { MemoryReceiver } from './memory_receiver.js';
import { qemuIo, RunningAgent, scratchDirectory, socketVolume, type TestSite } from './running_agent.js';
import { isRoot, skipUnless } from '../prerequisite.js';

const MIB = 1 << 20;
const run = promisify(execFile);

interface Scene {
  site: TestSite;
  receiver: MemoryReceiver;
  volume: VolumeConfig;
  socket: string;
}

/** A backing of 16 MiB, half of it random, and a receiver that knows nothing of it. */
async function scene(t: Test): Promise<Scene> {
  const directory = scratchDirectory(t);
  const volume = socketVolume(directory);
  writeFileSync(volume.backing, Buffer.concat([Buffer.alloc(8 * MIB), randomBytes(8 * MIB)]));
  const receiver = new MemoryReceiver(path.join(directory, 'receiver'));
  const receiverPort = await receiver.listen(0);
  t.teardown(() => receiver.close());
  const socket = path.join(directory, 'run', 'db-data.sock');
  return { site: { directory, receiverPort, volumes: [volume] }, receiver, volume, socket };
}

async function start(t: Test, site: TestSite): Promise<RunningAgent> {
  const agent = await RunningAgent.start(site);
  t.teardown(() => agent.stopNow());
  return agent;
}

async function assertEqual(t: Test, { receiver, volume }: Scene, message: string): Promise<void> {
  const replica = await receiver.contentAt(0, receiver.durableLsn);
  t.ok(replica.equals(readFileSync(volume.backing)), message);
}

t.test(
  'first start: a copy, then every write; a clean stop and start go on without another copy',
  async (t) => {
    const here = await scene(t);
    const { site, receiver, socket } = here;
    const agent = await start(t, site);
    const first = await agent.settled();
    t.equal(receiver.syncBytes, 8 * MIB, 'zeroes were not sent');
    await qemuIo(
      socket,
      'write -P 17 1M 3M',
      'write -P 18 4k 512',
      'discard 9M 1M',
      'write -z 12M 64k',
      'flush',
    );
    await agent.settled();
    await assertEqual(t, here, 'the journal replays to what the host wrote');

    const checkpoint = await agent.checkpoint('before-stop');
    t.strictSame(
      receiver.checkpoints.map(({ name, lsn }) => [name, lsn]),
      [['before-stop', checkpoint.lsn]],
    );
    await t.rejects(agent.checkpoint('no/name'), { code: 'CHECKPOINT_INVALID' });
    const status = await agent.settled();
    t.ok(status.rpoLagP99Ns > 0n && status.rpoLagP50Ns <= status.rpoLagP99Ns);
    t.equal(status.volumes[0]?.device, `unix:${socket}`);
    await agent.stop();

    const again = await start(t, site);
    await qemuIo(socket, 'write -P 19 2M 1M', 'flush');
    const second = await again.settled();
    t.equal(second.generation, first.generation);
    t.strictSame(receiver.syncs, ['SYNC_INITIAL 0'], 'nothing was copied or compared a second time');
    t.equal(receiver.hellos[1]?.epoch, (receiver.hellos[0]?.epoch ?? 0n) + 1n);
    t.notSame(receiver.hellos[0]?.instance, receiver.hellos[1]?.instance);
    await assertEqual(t, here, 'writes after the restart are there too');
    await again.stop();
  },
);

t.test('production is served while the receiver is away, and protected when it comes', async (t) => {
  const here = await scene(t);
  await here.receiver.stop();
  const agent = await start(t, here.site);
  t.equal((await agent.status()).state, 'tracking');
  await qemuIo(here.socket, 'write -P 33 0 2M', 'flush');
  await agent.until('told why', ({ detail }) => detail.startsWith('RECEIVER_UNREACHABLE'));
  const [first, later] = [await agent.status(), await sleep(30).then(() => agent.status())];
  t.ok(0n < first.rpoLagNs && first.rpoLagNs < later.rpoLagNs, 'nothing is replicated: the lag grows');
  await t.rejects(agent.checkpoint('early'), { code: 'RECEIVER_UNREACHABLE' });
  await here.receiver.listen(here.site.receiverPort);
  await agent.settled();
  await assertEqual(t, here, 'what was written before is there');
  await agent.stop();
});

t.test('a connection that is cut under load: the stream goes on where it was', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  const { generation } = await agent.settled();
  for (let round = 0; round < 3; round += 1) {
    const writes = [0, 1, 2, 3].map((part) => `write -P ${round * 4 + part + 1} ${part * 2}M 1M`);
    const writing = qemuIo(here.socket, ...writes, 'flush');
    here.receiver.cut();
    await writing;
    await agent.settled();
    await assertEqual(t, here, `after cut ${round}`);
  }
  t.equal((await agent.status()).generation, generation);
  t.strictSame(here.receiver.ended, []);
  await agent.stop();
});

t.test(
  'a receiver that stands still: the ring fills, production goes on, a resync closes the gap',
  async (t) => {
    const here = await scene(t);
    const { receiver, socket } = here;
    const agent = await start(t, here.site);
    const before = await agent.settled();
    await qemuIo(socket, 'write -P 50 0 1M', 'flush');
    await agent.settled();
    const kept = readFileSync(here.volume.backing);
    const keptLsn = receiver.durableLsn;

    receiver.isBlocked = true;
    for (let round = 0; round < 4; round += 1) {
      await qemuIo(socket, ...[0, 4, 8].map((at) => `write -P ${60 + round} ${at}M 4M`), 'flush');
    }
    await agent.until('tracking', ({ state }) => state === 'tracking');
    await agent.until('told why', ({ detail }) => detail.startsWith('RING_FULL'));
    await qemuIo(socket, 'write -P 99 14M 1M', 'flush');
    await receiver.unblock();
    const after = await agent.settled();
    t.ok(after.generation > before.generation);
    t.strictSame(
      receiver.ended.map(({ reason }) => reason),
      ['RING_FULL'],
    );
    t.equal(receiver.begun.at(-1)?.reason, 'RING_FULL');
    t.strictSame(receiver.syncs, ['SYNC_INITIAL 0', 'SYNC_RESYNC 0']);
    await assertEqual(t, here, 'after the resync both sides are equal');
    t.ok((await receiver.contentAt(0, keptLsn)).equals(kept), 'and the point before it is what it was');
    await agent.stop();
  },
);

t.test('a backing that was written to while the agent was stopped is compared again', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  const before = await agent.settled();
  await agent.stop();
  const bytes = readFileSync(here.volume.backing);
  bytes.fill(0x7e, 5 * MIB, 6 * MIB);
  writeFileSync(here.volume.backing, bytes, { flag: 'r+' });
  const again = await start(t, here.site);
  const after = await again.settled();
  t.equal(after.generation, before.generation + 1n);
  t.strictSame(here.receiver.syncs, ['SYNC_INITIAL 0', 'SYNC_RESYNC 0']);
  await assertEqual(t, here, 'what was written behind the agent is there');
  await again.stop();
});

t.test(
  'a block device that was written to while the agent was stopped is compared again, and only then',
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    const here = await scene(t);
    const { stdout } = await run('losetup', ['--find', '--show', here.volume.backing]);
    const device = stdout.trim();
    t.teardown(() => run('losetup', ['-d', device]));
    const site = { ...here.site, volumes: [{ ...here.volume, backing: device }] };
    const first = await start(t, site);
    const before = await first.settled();
    await qemuIo(here.socket, 'write -P 42 1M 1M', 'flush');
    await first.stop();

    const second = await start(t, site);
    t.equal((await second.settled()).generation, before.generation, 'untouched: the stream goes on');
    await qemuIo(here.socket, 'write -P 43 2M 1M', 'discard 3M 1M', 'flush');
    await second.stop();

    await run('dd', [
      'if=/dev/urandom',
      `of=${device}`,
      'bs=4k',
      'count=1',
      'seek=1300',
      'conv=notrunc,fsync',
    ]);
    const third = await start(t, site);
    const after = await third.settled();
    t.equal(after.generation, before.generation + 1n);
    t.strictSame(here.receiver.syncs, ['SYNC_INITIAL 0', 'SYNC_RESYNC 0']);
    const replica = await here.receiver.contentAt(0, here.receiver.durableLsn);
    t.ok(replica.equals(readFileSync(device)), 'what was written behind the agent is there');
    await third.stop();
  },
);

t.test('a second agent is refused, by its directories and by the backing', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  await agent.settled();
  await t.rejects(RunningAgent.attempt(here.site), { code: 'STATE_BUSY' });
  const directory = path.join(here.site.directory, 'other');
  const volume = { ...socketVolume(directory), backing: here.volume.backing };
  await t.rejects(RunningAgent.attempt({ ...here.site, directory, volumes: [volume] }), {
    code: 'BACKING_BUSY',
  });
  await agent.stop();
});

t.test('backings that cannot be: missing, shrunk, of a size that no disk has', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  await agent.settled();
  await agent.stop();
  writeFileSync(here.volume.backing, Buffer.alloc(4 * MIB));
  await t.rejects(RunningAgent.attempt(here.site), { code: 'BACKING_RESIZED' });
  writeFileSync(here.volume.backing, Buffer.alloc(1000));
  await t.rejects(RunningAgent.attempt(here.site), { code: 'BACKING_INVALID' });
  const missing = { ...here.volume, backing: path.join(here.site.directory, 'nothing') };
  await t.rejects(RunningAgent.attempt({ ...here.site, volumes: [missing] }), { code: 'BACKING_MISSING' });
});

t.test('a start that fails leaves a clean stop clean', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  const before = await agent.settled();
  await agent.stop();
  const wal = socketVolume(here.site.directory, 'wal');
  const taken: VolumeConfig = {
    ...here.volume,
    attach: { kind: 'socket', address: { unix: '/proc/nowhere' } },
  };
  await t.rejects(RunningAgent.attempt({ ...here.site, volumes: [taken] }), { code: 'LISTEN_FAILED' });
  await t.rejects(RunningAgent.attempt({ ...here.site, volumes: [here.volume, wal] }), {
    code: 'BACKING_MISSING',
  });
  const again = await start(t, here.site);
  const after = await again.settled();
  t.equal(after.generation, before.generation);
  await again.stop();
});

t.test('a client that stays holds a stop up, until the second signal', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  await agent.settled();
  const client = net.connect(here.socket);
  t.teardown(() => client.destroy());
  await once(client, 'data'); // the server's greeting
  let isStopped = false;
  here.receiver.isBlocked = true;
  await qemuIo(here.socket, 'write -P 70 0 1M', 'flush');
  const stopping = agent.stop().then(() => (isStopped = true));
  await sleep(600);
  t.notOk(isStopped);
  await here.receiver.unblock();
  const status = await agent.until('replicated', (now) => now.durableLsn === now.capturedLsn);
  t.equal(status.state, 'protected');
  t.equal(status.detail, 'stopping: in use by 1 NBD connection (volume data)');
  await qemuIo(here.socket, 'write -P 71 2M 1M', 'flush');
  await agent.until(
    'replicated',
    (now) => now.capturedLsn > status.capturedLsn && now.durableLsn === now.capturedLsn,
  );
  await assertEqual(t, here, 'what is written after the first signal is protected');
  await agent.stopNow();
  await stopping;
  t.notOk(existsSync(here.socket));
});

t.test('an exception that nobody caught costs neither the volume nor its protection', async (t) => {
  const here = await scene(t);
  const agent = await start(t, here.site);
  const { generation } = await agent.settled();
  // What Node does with an exception in a callback; throwing one here would end the test as well.
  const [onDefect] = process.listeners('uncaughtException').slice(-1);
  onDefect?.(new Error('a defect'), 'uncaughtException');
  await qemuIo(here.socket, 'write -P 5 0 1M', 'flush');
  t.equal((await agent.settled()).generation, generation);
  await assertEqual(t, here, 'what was written after it is there');
  await agent.stop();
});
