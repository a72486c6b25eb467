/** Damage that a receiver meets, or hears of, while it runs: it is graded (R5), and the agent compares. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import { ScriptedStream } from './scripted_agent.js';
import { grades, lastSegment, offsetOf, recovered, resync, synced, writeMore } from './synced_scene.js';

t.test('a segment that rots while the receiver runs is graded as soon as a point meets it', async (t) => {
  // Whoever opened a point got the error; the timeline went on to call it `ordered`.
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  const [intact = 0n] = (await writeMore(scene, 10)).slice(-1);
  const state = agent.present;
  await writeMore(scene, 10);
  const last = agent.position().lsn;
  const file = await lastSegment(scene);
  const bytes = await readFile(file);
  const at = offsetOf(bytes, intact + 1n);
  bytes.writeUInt8(bytes.readUInt8(at + 200) ^ 0xff, at + 200);
  await writeFile(file, bytes);
  await t.rejects(receiver.recover({ point: 'latest', target: path.join(receiver.directory, 'out') }), {
    code: 'SEGMENT_CORRUPT',
  });
  await stream.ended();
  const damaged = [new RegExp(`^ordered \\d+-${intact}$`), `damaged ${intact + 1n}-${last}`, 'gap 0-0'];
  for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
    const spans = await grades(scene);
    if (spans.at(-1) !== 'gap 0-0' && Date.now() < deadline) continue;
    t.match(spans.slice(-3), damaged);
    break;
  }
  t.ok(state.equals(await recovered(scene, 'latest')), 'latest is the last one that is whole');

  const different = await resync(t, scene, last);
  t.ok(different > 0 && different <= 10, `${different} blocks differ`);
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
  await receiver.stop();
  await receiver.run();
  t.match((await grades(scene)).at(-1), /^ordered/, 'damage that is known is not found again');
  t.ok(agent.present.equals(await recovered(scene, 'latest')));
});

t.test('what the agent was told to be durable and is not here is damaged, not a gap', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const [last = 0n] = (await writeMore(scene, 3)).slice(-1);
  const stream = new ScriptedStream(receiver.address);
  t.teardown(() => stream.close());
  const epoch = agent.identity.epoch + 1n;
  const told = last + 5n;
  const known = { generation: 1n, durableLsn: told, usedLsnMax: told, ancestors: [agent.identity.instance] };
  stream.say({ hello: agent.hello({ epoch, instance: randomBytes(16), ...known }) });
  t.match(await stream.hear('welcome'), { generation: 1n, durableLsn: last, ended: true });
  t.match((await grades(scene)).slice(-3), [
    new RegExp(`^ordered \\d+-${last}$`),
    `damaged ${last + 1n}-${told}`,
    'gap 0-0',
  ]);
  t.ok(agent.present.equals(await recovered(scene, 'latest')), 'what is here stays ordered');
});

t.test('a checkpoint is kept with what it names, and never graded by guess', async (t) => {
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  const database = new Database(path.join(receiver.store, 'catalog.sqlite'));
  t.teardown(() => database.close());
  const [last = 0n] = (await writeMore(scene, 3)).slice(-1);
  const asked = receiver.call('checkpointCreate', { group: 'db', name: 'now', pin: false, lockUntilNs: 0n });
  const { requestId, name } = await stream.hear('checkpointRequest');
  stream.say({ checkpoint: { requestId, name, ...agent.position() } });
  await stream.hear('checkpointDone');
  t.equal(database.prepare('SELECT max(last_lsn) FROM segments').pluck().get(), Number(last));
  t.match(await asked, { lsn: last, grade: 'ordered' });
  // As after a crash that took the records with it.
  database.exec('UPDATE checkpoints SET lsn = 1000000');
  const { checkpoints } = await receiver.call('checkpointList', { group: 'db' });
  t.match(checkpoints, [{ name: 'now', grade: 'damaged' }]);
});
