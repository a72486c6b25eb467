/** Several streams at one receiver: who gets the member, and who does not get to stay. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Hello } from '../../proto/replication.js';
import { Store } from '../../receiver/store.js';
import { RunningReceiver } from './running_receiver.js';
import { ScriptedStream } from './scripted_agent.js';
import { synced } from './synced_scene.js';

interface Writer {
  stream: ScriptedStream;
  hello: Hello;
}

const SESSIONS_MAX = 16;

for (const isOlderFirst of [true, false]) {
  const order = isOlderFirst ? 'the older' : 'the newer';
  t.test(`of two writers at once the newer has the member, when ${order} came first`, async (t) => {
    // Both stored their epochs; the older one went live first, and the newer one was sent away.
    const { receiver, agent } = await synced(t);
    const [older, newer] = [5n, 6n].map((epoch) => {
      const stream = new ScriptedStream(receiver.address);
      t.teardown(() => stream.close());
      return { stream, hello: agent.hello({ epoch, instance: randomBytes(16) }) };
    }) as [Writer, Writer];
    const refused = older.stream.hear('refused');
    // The first one is about to store its epoch, and gets no further before the other has come.
    const isStoring = new Promise<void>((resolve) => {
      const createMember = async (): Promise<void> => {
        resolve();
        await refused;
      };
      t.intercept(Store.prototype, 'createMember', { value: createMember });
    });
    const [first, second] = isOlderFirst ? [older, newer] : [newer, older];
    first.stream.say({ hello: first.hello });
    await isStoring;
    second.stream.say({ hello: second.hello });
    t.match(await refused, { code: 'FENCED' });
    await newer.stream.hear('welcome');
  });
}

t.test('a stream that never says Hello is ended, with a code', async (t) => {
  const receiver = await RunningReceiver.start(t);
  await receiver.stop();
  await receiver.run('', { helloMs: 200 });
  const stream = new ScriptedStream(receiver.address);
  t.teardown(() => stream.close());
  t.match(await stream.hear('refused'), { code: 'SESSION_LOST', retryable: true });
  await stream.ended();
});

t.test('one agent too many hears why', async (t) => {
  const receiver = await RunningReceiver.start(t);
  await receiver.stop();
  await receiver.run('', { sessionsMax: SESSIONS_MAX });
  const streams = Array.from({ length: SESSIONS_MAX + 1 }, () => new ScriptedStream(receiver.address));
  t.teardown(() => streams.forEach((stream) => stream.close()));
  const refused = await Promise.any(streams.map((stream) => stream.hear('refused')));
  t.match(refused, { code: 'SESSION_LIMIT', retryable: true });
});

t.test('while the agent is away the lag grows', async (t) => {
  // It was 0, as if everything were here.
  const { receiver, agent, stream } = await synced(t);
  const { lsn, timeNs } = agent.position();
  const coveredNs = BigInt(Date.now()) * 1_000_000n;
  const ring = { oldestTimeNs: 0n, ringUsedBytes: 0n, ringBytes: 1n, state: 'protected', logs: [] };
  const marks = { capturedLsn: lsn, shippedLsn: lsn, capturedTimeNs: timeNs, nowNs: coveredNs };
  stream.say({ heartbeat: { ...marks, ...ring } });
  await stream.hear('ack');
  stream.close();
  for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
    if (Date.now() > deadline) throw new Error('the receiver never noticed');
    const [group] = (await receiver.status()).groups;
    if (group?.state !== 'disconnected') continue;
    t.ok(group.rpoLagNs > 0n);
    t.ok(group.rpoLagNs <= BigInt(Date.now()) * 1_000_000n - coveredNs + 1_000_000_000n);
    return;
  }
});
