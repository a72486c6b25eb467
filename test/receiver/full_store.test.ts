import { readFile } from 'node:fs/promises';
import path from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import { CheckpointTable } from '../../receiver/catalog/checkpoints.js';
import { DoubtTable } from '../../receiver/catalog/doubts.js';
import { MemberTable } from '../../receiver/catalog/members.js';
import { exportOf, synced, writeMore } from './synced_scene.js';

function full(): never {
  throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
}
/** As in a store without a free byte: positions cannot be written. */
function fill(test: Test): void {
  test.intercept(MemberTable.prototype, 'advance', { value: full });
}

t.test('a full store can be looked at, exported and recovered from', async (t) => {
  // Every one of them wrote the catalog first, and failed as INTERNAL when it was needed most.
  const scene = await synced(t);
  const { receiver, agent } = scene;
  await writeMore(scene, 3);
  await receiver.call('timeline', { group: 'db' });
  const [last = 0n] = (await writeMore(scene, 1)).slice(-1);
  fill(t);
  t.match(await receiver.status(), { groups: [{ name: 'db', durableLsn: last }] });
  t.match(await receiver.call('timeline', { group: 'db' }), { group: 'db' });
  const opened = await receiver.call('exportOpen', exportOf('latest'));
  const target = path.join(receiver.directory, 'out');
  const messages = await receiver.recover({ target });
  const lsn = messages.at(-1)?.lsn ?? 0n;
  t.equal(lsn, opened.lsn);
  t.ok(agent.states.get(lsn)?.equals(await readFile(target)));
  await receiver.call('exportClose', { id: opened.id });
});

t.test('what the catalog cannot take has the code of a full store', async (t) => {
  const { receiver } = await synced(t);
  t.intercept(CheckpointTable.prototype, 'checkpoints', { value: full });
  await t.rejects(receiver.call('checkpointList', { group: '' }), { code: 'JOURNAL_FULL' });
});

t.test('a receiver on a full store ends, and lets go of it', async (t) => {
  // The first journal that could not be written kept the others, the catalog and the lock of the store open.
  const scene = await synced(t);
  const { receiver } = scene;
  fill(t);
  const [last = 0n] = (await writeMore(scene, 3)).slice(-1);
  await receiver.stop();
  await receiver.run();
  t.match(await receiver.status(), { groups: [{ durableLsn: last }] });
});

t.test('a heartbeat that the catalog cannot take: the agent is told why, and it is no defect', async (t) => {
  // Symptom: the session ended without a word; the log spoke of a defect, and `status` of INTERNAL.
  const { receiver, agent, stream } = await synced(t);
  t.intercept(DoubtTable.prototype, 'put', { value: full });
  const { lsn: capturedLsn, timeNs: capturedTimeNs } = agent.position();
  const marks = { capturedLsn, capturedTimeNs, shippedLsn: capturedLsn, nowNs: capturedTimeNs };
  const ring = { oldestTimeNs: 0n, ringUsedBytes: 0n, ringBytes: 1n, state: 'protected' };
  const logs = [{ volume: 0, id: 7n, sequence: 1n, basisLsn: 0n }];
  stream.say({ heartbeat: { ...marks, ...ring, logs } });
  t.match(await stream.hear('refused'), { code: 'JOURNAL_FULL' });
  await stream.ended();
  t.match(await receiver.status(), { groups: [{ name: 'db' }] });
});
