/** A group of two hosts, one of which has long been quiet. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { formatTime } from '../../proto/time.js';
import { RunningReceiver } from './running_receiver.js';
import { newIdentity, ScriptedAgent, ScriptedStream } from './scripted_agent.js';
import { join, SIZE, writeMore, type Scene } from './synced_scene.js';

const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;

async function scene(t: Test): Promise<{ quiet: Scene; busy: Scene }> {
  const receiver = await RunningReceiver.start(t);
  const { group } = newIdentity();
  const quiet = await join(t, receiver, { ...newIdentity(), group }, 'host1', 'data');
  const busy = await join(t, receiver, { ...newIdentity(), group }, 'host2', 'log');
  return { quiet, busy };
}
/** Everything up to now is covered: returns when the receiver knows. */
async function beat({ receiver, agent, stream }: Scene, host: string): Promise<bigint> {
  const { lsn, timeNs: capturedTimeNs } = agent.position();
  const coveredNs = nowNs();
  const ring = { oldestTimeNs: 0n, ringUsedBytes: 0n, ringBytes: 1n, state: 'protected', logs: [] };
  const marks = { capturedLsn: lsn, shippedLsn: lsn, capturedTimeNs, nowNs: coveredNs };
  stream.say({ heartbeat: { ...marks, ...ring } });
  for (;;) {
    const { spans } = await receiver.call('timeline', { group: 'db' });
    if (spans.some((span) => span.host === host && span.endNs >= coveredNs)) return coveredNs;
    await sleep(10);
  }
}
/** Returns the point, as it is named for good. */
async function holds(t: Test, { receiver, agent }: Scene, volume: string, point: string): Promise<string> {
  const target = path.join(receiver.directory, randomBytes(4).toString('hex'));
  const messages = await receiver.recover({ volume, point, target });
  t.ok(agent.present.equals(await readFile(target)), `${volume} at ${point}`);
  return messages.at(-1)?.point ?? '';
}

t.test('a quiet member does not hold the others back', async (t) => {
  // `latest`, and every time, was that of the quietest member's last record: an hour ago, after an hour of silence.
  const { quiet, busy } = await scene(t);
  await writeMore(busy, 5);
  await beat(busy, 'host2');
  const coveredNs = await beat(quiet, 'host1');
  await beat(busy, 'host2');
  await holds(t, busy, 'log', 'latest');
  await holds(t, quiet, 'data', 'latest');
  await holds(t, busy, 'log', formatTime(coveredNs));
});

t.test('what was `latest` has a name that stays, for every member', async (t) => {
  const { quiet, busy } = await scene(t);
  await writeMore(busy, 5);
  await beat(busy, 'host2');
  await beat(quiet, 'host1');
  const latest = await holds(t, busy, 'log', 'latest');
  const record = await holds(t, busy, 'log', `lsn:host2:${busy.agent.position().lsn}`);
  const before = { log: Buffer.from(busy.agent.present), data: Buffer.from(quiet.agent.present) };
  await writeMore(busy, 5);
  await writeMore(quiet, 5);
  for (const point of [latest, record]) {
    for (const [volume, content] of Object.entries(before)) {
      const target = path.join(busy.receiver.directory, randomBytes(4).toString('hex'));
      await busy.receiver.recover({ volume, point, target });
      t.ok(content.equals(await readFile(target)), `${volume} at ${point}`);
    }
  }
});

t.test('a member that has just joined takes no point away', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const { group } = newIdentity();
  const scene = await join(t, receiver, { ...newIdentity(), group }, 'host1', 'data');
  const [lsn = 0n] = await writeMore(scene, 1);
  const checkedNs = await beat(scene, 'host1');
  // Both ways round: of the members, the one with the lower UUID is asked first.
  for (const digit of [0x01, 0xff]) {
    const { stream, volumes } = await begin(t, receiver, group, digit);
    for (const point of ['latest', `lsn:${lsn}`, formatTime(checkedNs)]) await holds(t, scene, 'data', point);
    stream.say({ generationBegin: { generation: 1n, firstLsn: 1n, reason: 'NEW', volumes } });
    await stream.hear('generationAccepted');
    for (const point of ['latest', `lsn:${lsn}`, formatTime(checkedNs)]) await holds(t, scene, 'data', point);
  }
  const late = await join(t, receiver, { ...newIdentity(), group }, 'late', 'log');
  await beat(late, 'late');
  await holds(t, scene, 'data', formatTime(checkedNs));
  await t.rejects(
    receiver.recover({
      volume: 'log',
      point: formatTime(checkedNs),
      target: path.join(receiver.directory, 'x'),
    }),
    { code: 'VOLUME_UNKNOWN' },
    'which had none of its volumes yet',
  );
  await beat(scene, 'host1');
  await holds(t, late, 'log', 'latest');
});

/** A member that has said hello and nothing else. */
async function begin(
  t: Test,
  receiver: RunningReceiver,
  group: Buffer,
  digit: number,
): Promise<{ stream: ScriptedStream; volumes: ScriptedAgent['info'][] }> {
  const identity = { ...newIdentity(), group, member: Buffer.alloc(16, digit) };
  const agent = await ScriptedAgent.create(receiver.directory, identity, SIZE);
  t.teardown(() => agent.close());
  const stream = new ScriptedStream(receiver.address, null);
  t.teardown(() => stream.close());
  const name = `empty${digit}`;
  const volumes = [{ ...agent.info, name }];
  stream.say({ hello: agent.hello({ groupName: 'db', host: name, volumes }) });
  await stream.hear('welcome');
  return { stream, volumes };
}
