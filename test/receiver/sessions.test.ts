/** Several streams at one receiver: who gets the member, and who does not get to stay. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { Store } from '../../receiver/store.js';
import { RunningReceiver } from './running_receiver.js';
import { ScriptedStream } from './scripted_agent.js';
import { synced } from './synced_scene.js';

/** As in receiver/server.ts. */
const SESSIONS_MAX = 256;

t.test('of two writers that wait for the same old one the newer has the member', async (t) => {
  // Both stored their epochs; the older one went live first, and the newer one was sent away.
  const { receiver, agent } = await synced(t);
  // Its directories are there already: both wait here until the other does.
  let waiting = 0;
  let release = (): void => undefined;
  const both = new Promise<void>((resolve) => (release = resolve));
  const createMember = (): Promise<void> => {
    waiting += 1;
    if (waiting === 2) release();
    return both;
  };
  t.intercept(Store.prototype, 'createMember', { value: createMember });
  const streams = [5n, 6n].map((epoch) => {
    const stream = new ScriptedStream(receiver.address);
    t.teardown(() => stream.close());
    stream.say({ hello: agent.hello({ epoch, instance: randomBytes(16) }) });
    return stream;
  });
  const [older, newer] = streams as [ScriptedStream, ScriptedStream];
  await newer.hear('welcome');
  // Before, it may have been let in for a moment: then it is fenced like any other.
  t.match(await older.hear('refused'), { code: 'FENCED' });
});

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
  const ring = { oldestTimeNs: 0n, ringUsedBytes: 0n, ringBytes: 1n, state: 'protected' };
  const marks = { capturedLsn: lsn, shippedLsn: lsn, capturedTimeNs: timeNs, nowNs: coveredNs };
  stream.say({ heartbeat: { ...marks, ...ring } });
  await stream.hear('ack');
  stream.close();
  for (;;) {
    const [group] = (await receiver.status()).groups;
    if (group?.state !== 'disconnected') continue;
    t.ok(group.rpoLagNs > 0n);
    t.ok(group.rpoLagNs <= BigInt(Date.now()) * 1_000_000n - coveredNs + 1_000_000_000n);
    return;
  }
});
