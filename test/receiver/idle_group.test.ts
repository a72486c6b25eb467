/** What a first-time user tries before anything is mounted: every point of a group that nobody has written to. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { qemuIo, RunningAgent, scratchDirectory, socketVolume } from '../agent/running_agent.js';
import { RunningReceiver } from './running_receiver.js';
import { exportOf } from './synced_scene.js';

const MIB = 1 << 20;

async function scene(t: Test) {
  const receiver = await RunningReceiver.start(t);
  const directory = scratchDirectory(t);
  const volume = socketVolume(directory);
  const content = Buffer.concat([randomBytes(2 * MIB), Buffer.alloc(2 * MIB)]);
  await writeFile(volume.backing, content);
  const receiverPort = Number(receiver.address.split(':')[1]);
  const agent = await RunningAgent.start({ directory, receiverPort, volumes: [volume] });
  t.teardown(() => agent.stopNow());
  await agent.settled();
  return { receiver, agent, content, socket: path.join(directory, 'run', 'db-data.sock') };
}

t.test('a group that nobody writes to has every kind of point', async (t) => {
  // `checkpoint create` was refused with POINT_GRADE until the first write.
  const { receiver, agent, content, socket } = await scene(t);
  const holds = async (point: string): Promise<void> => {
    const opened = await receiver.call('exportOpen', exportOf(point));
    await receiver.call('exportClose', { id: opened.id });
    const target = path.join(receiver.directory, randomBytes(4).toString('hex'));
    await receiver.recover({ point, target });
    t.ok(content.equals(await readFile(target)), point);
  };
  const durable = async (): Promise<bigint> => (await receiver.status()).groups[0]?.durableLsn ?? -1n;
  await holds('latest');
  const before = await durable();
  await holds(`lsn:${before}`);
  // Coverage comes with the heartbeats, one a second: it is a second old at worst, and what its way takes.
  await sleep(3500);
  await holds('-2s');

  const created = await receiver.call('checkpointCreate', {
    group: 'db',
    name: 'first',
    pin: false,
    lockUntilNs: 0n,
  });
  t.equal(created.grade, 'ordered');
  t.equal((await agent.checkpoint('second')).lsn, created.lsn, 'the group is idle still');
  await holds('checkpoint:first');
  await holds(`lsn:${await durable()}`);

  await qemuIo(socket, 'write -P 17 0 1M');
  await agent.settled();
  await holds('checkpoint:first');
  await holds('checkpoint:second');
  await holds(`lsn:${before}`);
  t.match(await receiver.call('checkpointList', { group: 'db' }), {
    checkpoints: [{ name: 'first', grade: 'ordered' }, { name: 'second' }],
  });
});
