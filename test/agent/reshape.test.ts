/** A group that runs gets other volumes: production of those that stay does not notice, and each is protected as it is there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { nbdUri, qemuIo, RunningAgent, scratchDirectory, socketVolume } from './running_agent.js';

const MIB = 1 << 20;
const VOLUME_BYTES = 16 * MIB;

async function scene(t: Test) {
  const receiver = await RunningReceiver.start(t);
  const directory = scratchDirectory(t);
  const volumes = ['data', 'more'].map((name) => socketVolume(directory, name));
  const [data, more] = volumes;
  if (data === undefined || more === undefined) throw new Error('two volumes');
  for (const [at, { backing }] of volumes.entries())
    writeFileSync(backing, Buffer.alloc(VOLUME_BYTES, at + 1));
  const site = { directory, receiverPort: Number(receiver.address.split(':')[1]), volumes: [data] };
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
  return { receiver, agent, data, more, socket, assertEqual };
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
  agent.reload([data, more]);
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
  agent.reload([more]);
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

  writeFileSync(data.backing, Buffer.alloc(VOLUME_BYTES, 7));
  agent.reload([more, data]);
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
  const { agent, data, more, assertEqual } = await scene(t);
  const before = await agent.status();
  agent.reload([data, { ...more, backing: `${more.backing}.gone` }]);
  await sleep(500);
  const after = await agent.settled();
  t.equal(after.volumes.length, 1);
  t.equal(after.generation, before.generation);
  await assertEqual('data', data.backing);
});
