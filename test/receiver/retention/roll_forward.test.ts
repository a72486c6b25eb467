/** History is shortened from its oldest end, and every point that is still held stays what it was. */
import { randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import {
  answerCheckpoint,
  checkFiles,
  checkHistory,
  fill,
  isSettled,
  LONG,
  oldestLsn,
  segmentCount,
  SHORT,
  UNTOUCHED,
  until,
} from './scene.js';
import { baseFile, rot } from '../base_rot.js';
import { checkStore } from '../fsck/checked_store.js';
import { exportOf, recovered, synced } from '../synced_scene.js';

const QUICK = { retentionMs: 20 };

t.test('what is older than the window goes; what is left is what it was, also after a restart', async (t) => {
  const scene = await synced(t);
  const { receiver } = scene;
  await fill(scene, 5);
  await receiver.stop();
  await receiver.run(SHORT, QUICK);
  await until('history is shortened', async () => (await segmentCount(scene)) === 1);
  t.ok((await oldestLsn(scene)) > 1n);
  await checkHistory(t, scene);
  await receiver.stop();
  await checkFiles(t, scene);
  await receiver.run(LONG);
  await checkHistory(t, scene);
  await receiver.stop();
});

const STAGES = [
  ['raised', 1],
  ['applying', 1],
  ['applying', 3],
  ['applied', 1],
  ['synced', 1],
  ['forgotten', 1],
  ['removed', 1],
] as const;
for (const [stage, count] of STAGES) {
  t.test(`killed at the step "${stage}" (${count})`, async (t) => {
    const scene = await synced(t);
    const { receiver } = scene;
    await fill(scene, 4);
    await receiver.stop();
    const child = path.join(path.dirname(fileURLToPath(import.meta.url)), 'killed_receiver.js');
    const args = [child, receiver.store, path.join(receiver.directory, 'run'), stage, String(count)];
    const signal = await new Promise((resolve) => {
      execFile(process.execPath, args, { timeout: 60_000 }, (error) => resolve(error?.signal));
    });
    t.equal(signal, 'SIGKILL');
    const { findings } = await checkStore(receiver.store);
    t.same(
      findings.filter(({ severity }) => severity === 'damage' || severity === 'unchecked'),
      [],
      'fsck takes nothing that was cut off for damage',
    );
    const ofBases = findings.map(({ code }) => code).filter((code) => code.startsWith('BASE_'));
    const isUnder = stage === 'applying' || stage === 'applied';
    t.same(
      ofBases,
      isUnder ? ['BASE_ROLL_PENDING'] : [],
      'nor what is written again for blocks without checksums',
    );
    await checkFiles(t, scene);
    await receiver.run(LONG, { retentionMs: 3_600_000 });
    await checkHistory(t, scene);
    await receiver.stop();
    // What was begun is gone on with, whatever the window is by then.
    await receiver.run(LONG, QUICK);
    await until('it is done', () => isSettled(scene));
    await checkHistory(t, scene);
    await receiver.stop();
    await checkFiles(t, scene);
    const { verdict, findings: left } = await checkStore(receiver.store);
    t.equal(verdict, 'sound', left.map(({ code, message }) => `${code}: ${message}`).join('; '));
  });
}

t.test('a pinned checkpoint and an export hold what they name, and say so', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const checkpoint = (name: string, pin: boolean): Promise<unknown> => {
    const created = receiver.call('checkpointCreate', { group: 'db', name, pin, lockUntilNs: 0n });
    return answerCheckpoint(scene).then(() => created);
  };
  const heldBy = async (): Promise<string> => (await receiver.status()).groups[0]?.retentionHeldBy ?? '';
  await checkpoint('early', true);
  const early = agent.position().lsn;
  await fill(scene, 2);
  await checkpoint('middle', false);
  await fill(scene, 1);
  const point = agent.position().lsn;
  const shown = agent.present;
  await fill(scene, 2);
  scene.stream.close();
  await receiver.stop();
  await receiver.run(SHORT, QUICK);
  await until('history is held', async () => (await heldBy()).includes('pinned checkpoint early'));
  t.ok((await oldestLsn(scene)) <= early);
  await t.rejects(receiver.call('checkpointDelete', { group: 'db', name: 'early' }), {
    code: 'CHECKPOINT_PINNED',
  });
  const { id } = await receiver.call('exportOpen', exportOf(`lsn:${point}`));
  await receiver.call('checkpointPin', { group: 'db', name: 'early', pinned: false, lockUntilNs: 0n });
  await until('the export holds it', async () => (await heldBy()) === `export ${id}`);
  await until('all before it is gone', () => isSettled(scene));
  const oldest = await oldestLsn(scene);
  t.ok(oldest > early && oldest <= point, `${early} < ${oldest} <= ${point}`);
  const { checkpoints } = await receiver.call('checkpointList', { group: 'db' });
  t.notOk(
    checkpoints.some(({ name }) => name === 'early'),
    'one that is older than what is held is gone',
  );
  await t.rejects(recovered(scene, 'checkpoint:early'), { code: 'CHECKPOINT_UNKNOWN' });
  t.ok((await recovered(scene, `lsn:${point}`)).equals(shown));
  await receiver.call('exportClose', { id });
  await until('history goes on', async () => (await segmentCount(scene)) === 1);
  await checkHistory(t, scene);
});

t.test('a damaged block of a base is moved over once all of it was written', async (t) => {
  const scene = await synced(t);
  const { receiver, agent } = scene;
  const half = 32 * 1024;
  await agent.write(UNTOUCHED, randomBytes(half));
  await fill(scene, 2);
  await agent.write(UNTOUCHED + half, randomBytes(half));
  await fill(scene, 2);
  scene.stream.close();
  await receiver.stop();
  await rot(await baseFile(scene), UNTOUCHED + half + 5);
  await receiver.run(SHORT, QUICK);
  await until('all of it is gone', async () => (await segmentCount(scene)) === 1);
  await until('it is done', () => isSettled(scene));
  await checkHistory(t, scene);
  const { spans } = await receiver.call('timeline', { group: 'db' });
  t.notOk(
    spans.some(({ grade }) => grade === 'damaged'),
    'what needed it is gone, and with it the damage',
  );
  await receiver.stop();
  const { verdict, findings } = await checkStore(receiver.store);
  t.equal(verdict, 'sound', findings.map(({ code, message }) => `${code}: ${message}`).join('; '));
});
