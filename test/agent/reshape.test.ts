/** A group that runs gets other volumes: production of those that stay does not notice, and each is protected as it is there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { TcpProxy } from '../torture/tcp_proxy.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { nbdUri, qemuIo, RunningAgent, scratchDirectory, socketVolume } from './running_agent.js';

const MIB = 1 << 20;
const VOLUME_BYTES = 16 * MIB;

async function scene(t: Test, unmarkAfterMs = 60_000) {
  const receiver = await RunningReceiver.start(t);
  const way = await TcpProxy.start(receiver.address);
  t.teardown(() => way.stop());
  const directory = scratchDirectory(t);
  const volumes = ['data', 'more'].map((name) => socketVolume(directory, name));
  const [data, more] = volumes;
  if (data === undefined || more === undefined) throw new Error('two volumes');
  for (const [at, { backing }] of volumes.entries())
    writeFileSync(backing, Buffer.alloc(VOLUME_BYTES, at + 1));
  const site = { directory, receiverPort: Number(way.address.split(':')[1]), volumes: [data], unmarkAfterMs };
  const agent = await RunningAgent.start(site);
  t.teardown(() => agent.stopNow());
  await agent.settled();
  const socket = (name: string): string => path.join(directory, 'run', `db-${name}.sock`);
  const assertEqual = async (name: string, backing: string): Promise<void> => {
    const target = path.join(directory, `recovered-${name}`);
    const end = (
      await receiver.recover({ group: 'db', volume: name, point: 'latest', target, overwrite: true })
    ).at(-1);
    t.ok(
      end !== undefined && readFileSync(target).equals(readFileSync(backing)),
      `${name} is there as it is here`,
    );
  };
  /** Of all volumes that ever were. */
  const dirtyLogs = (): string[] => readdirSync(path.join(directory, 'state', 'dirty'));
  return { receiver, way, agent, data, more, socket, assertEqual, dirtyLogs, directory, site };
}

/** Writes until told to stop; how often. Errors: of the first write that fails. */
function writing(socket: string): { end: () => Promise<number> } {
  let [isOver, count] = [false, 0];
  const work = (async () => {
    for (; !isOver; count += 1) await qemuIo(socket, `write -P ${count % 256} ${count % 15}M 64k`);
  })();
  work.catch(() => undefined); // end() says so
  return {
    end: async () => {
      isOver = true;
      await work;
      return count;
    },
  };
}

t.test('a volume more, and one less, while they are written to', async (t) => {
  const { receiver, agent, data, more, socket, assertEqual } = await scene(t);
  const first = await agent.status();
  const load = writing(socket('data'));
  await sleep(200);
  await agent.reload([data, more]);
  await agent.until(
    'two volumes',
    ({ volumes }) => volumes.length === 2 && volumes.every(({ device }) => device !== ''),
  );
  await qemuIo(socket('more'), 'write -P 77 3M 1M', 'flush');
  await sleep(500);
  t.ok((await load.end()) > 5, 'the first was written to all the time');
  const second = await agent.settled();
  t.ok(second.generation > first.generation);
  await assertEqual('data', data.backing);
  await assertEqual('more', more.backing);
  const { groups } = await receiver.status();
  t.equal(groups.length, 1);

  const user = spawn('qemu-io', ['-f', 'raw', nbdUri(socket('data'))], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  t.teardown(() => user.kill('SIGKILL'));
  user.stdin.write('write -P 98 5M 1M\n');
  while (readFileSync(data.backing)[5 * MIB] !== 98) await sleep(20);
  const rest = writing(socket('more'));
  await agent.reload([more]);
  await sleep(1500);
  t.equal((await agent.status()).volumes.length, 2, 'somebody uses it');
  user.stdin.write('write -P 99 5M 1M\n');
  user.stdin.end('flush\n');
  await once(user, 'close');
  await agent.until('one volume', ({ volumes }) => volumes.length === 1);
  t.equal(readFileSync(data.backing)[5 * MIB], 99, 'and it was served to the end');
  t.ok((await rest.end()) > 5);
  await agent.settled();
  await assertEqual('more', more.backing);
  await t.rejects(qemuIo(socket('data'), 'read 0 512'), 'nobody is let in to it any more');

  // A little of it, where no sample is taken.
  const backing = await open(data.backing, 'r+');
  await backing.write(Buffer.alloc(64 << 10, 7), 0, 64 << 10, 4 * MIB + (512 << 10));
  await backing.close();
  await agent.reload([more, data]);
  await agent.until('two volumes', ({ volumes }) => volumes.length === 2);
  await agent.settled();
  await assertEqual('data', data.backing);
  await assertEqual('more', more.backing);
  const last = await agent.settled();
  await agent.stop();
  const again = await RunningAgent.start({
    directory: path.dirname(data.backing),
    receiverPort: Number(receiver.address.split(':')[1]),
    volumes: [data, more],
  });
  t.teardown(() => again.stopNow());
  t.equal((await again.settled()).generation, last.generation, 'a stop was a clean one: the stream goes on');
});

t.test('a volume that cannot be had changes nothing', async (t) => {
  const { agent, data, more, assertEqual, dirtyLogs } = await scene(t);
  const before = await agent.status();
  // One that could be had beside it gets another UUID each time, and must leave nothing.
  for (let attempt = 0; attempt < 3; attempt += 1)
    await agent.reload([data, more, { ...more, name: 'third', backing: `${more.backing}.gone` }]);
  t.equal(dirtyLogs().length, 1, 'of the volume that is there');
  await agent.reload([{ ...more, backing: `${more.backing}.gone` }]);
  await agent.reload([data, { ...more, backing: `${more.backing}.gone` }]);
  await agent.reload([more, data]);
  const after = await agent.until('two volumes', ({ volumes }) => volumes.length === 2);
  t.equal(after.volumes[0]?.name, 'data', 'it never left');
  t.equal((await agent.settled()).generation, before.generation + 1n, 'and nothing else began');
  await assertEqual('data', data.backing);
  await assertEqual('more', more.backing);
});

t.test('while the receiver is away: what was captured before is kept, and sent', async (t) => {
  const { receiver, way, agent, data, more, socket, assertEqual } = await scene(t);
  way.isStalled = true;
  way.cut();
  await agent.until('disconnected', ({ state }) => state === 'disconnected');
  await qemuIo(socket('data'), 'write -P 33 2M 2M', 'flush');
  const before = await agent.until('captured', ({ ringUsedBytes }) => ringUsedBytes > 2n << 20n);
  await agent.reload([data, more]);
  await agent.until(
    'two volumes',
    ({ volumes }) => volumes.length === 2 && volumes.every(({ device }) => device !== ''),
  );
  await qemuIo(socket('data'), 'write -P 34 8M 1M', 'flush');
  await qemuIo(socket('more'), 'write -P 35 1M 1M', 'flush');
  const third = socketVolume(path.dirname(data.backing), 'third');
  writeFileSync(third.backing, Buffer.alloc(MIB, 9));
  await agent.reload([data, more, third]);
  await agent.until('three volumes', ({ volumes }) => volumes.length === 3);
  const during = await agent.status();
  t.ok(during.ringUsedBytes >= before.ringUsedBytes, 'it waits in the ring');
  way.heal();
  const after = await agent.settled();
  t.equal(after.generation, before.generation + 1n);
  const { spans } = await receiver.call('timeline', { group: 'db' });
  t.ok(
    spans.some(({ lastLsn, grade }) => grade === 'ordered' && lastLsn === before.capturedLsn),
    `history goes on to the last write before it, ${before.capturedLsn}`,
  );
  await assertEqual('data', data.backing);
  await assertEqual('more', more.backing);
  await assertEqual('third', third.backing);
});

t.test('a volume that leaves, and comes back configured otherwise before it has left', async (t) => {
  const { agent, data, more, socket } = await scene(t);
  const user = spawn('qemu-io', ['-f', 'raw', nbdUri(socket('data'))], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  t.teardown(() => user.kill('SIGKILL'));
  user.stdin.write('write -P 98 5M 1M\n');
  while (readFileSync(data.backing)[5 * MIB] !== 98) await sleep(20);
  await agent.reload([more]);
  await agent.until('two volumes', ({ volumes }) => volumes.length === 2);
  await agent.reload([more, { ...data, backing: `${data.backing}.other` }]);
  await agent.reload([more, data]);
  user.stdin.end('');
  await once(user, 'close');
  await sleep(2500);
  const { volumes } = await agent.settled();
  t.match(
    volumes.map(({ name, backing }) => [name, backing]),
    [
      ['data', data.backing],
      ['more', more.backing],
    ],
    'it is wanted again, and stays as it was when nobody uses it',
  );
});

// What was remembered of it when it left was overwritten by the attempt, and what was written to its disk afterwards was
// not noticed.
t.test('a volume that could not come back is compared in full when it does', async (t) => {
  const { agent, data, more, assertEqual, directory } = await scene(t, 300);
  await agent.reload([data, more]);
  await agent.until('nothing in doubt', ({ volumes }) => volumes[1]?.doubtBytes === 0n);
  await agent.reload([data]);
  await agent.until('one volume', ({ volumes }) => volumes.length === 1);
  await agent.settled();
  // The state cannot be written for once.
  const obstacle = path.join(directory, 'state', `db.json.${process.pid}.tmp`);
  mkdirSync(obstacle);
  await agent.reload([data, more]);
  await agent.until('refused', ({ detail }) => /goes on with the volumes that it had: IO_ERROR/.test(detail));
  rmdirSync(obstacle);
  const disk = await open(more.backing, 'r+');
  await disk.write(Buffer.alloc(4096, 0x77), 0, 4096, 9 * MIB + 300 * 1024);
  await disk.close();
  await agent.reload([data, more]);
  await agent.until('two volumes again', ({ volumes }) => volumes.length === 2);
  await agent.settled();
  await assertEqual('more', more.backing);
});

// Its stop was not a clean one, since the receiver was away: what was written to its disk afterwards was found by samples alone.
t.test('a volume that is changed after a stop without a receiver is compared in full', async (t) => {
  const { agent, way, data, assertEqual, site } = await scene(t, 300);
  await agent.until('nothing in doubt', ({ volumes }) => volumes[0]?.doubtBytes === 0n);
  way.isStalled = true;
  way.cut();
  await agent.stop();
  const disk = await open(data.backing, 'r+');
  await disk.write(Buffer.alloc(4096, 0x77), 0, 4096, 9 * MIB + 300 * 1024);
  await disk.close();
  way.heal();
  const again = await RunningAgent.start(site);
  t.teardown(() => again.stopNow());
  await again.settled();
  await assertEqual('data', data.backing);
});
