/** Blocks of a base that rot: they are never shown, and exactly the instants that need them are graded (R5). */
import { randomBytes } from 'node:crypto';
import { unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import * as native from '../../native/index.js';
import { BaseDamage } from '../../receiver/base_damage.js';
import { Points } from '../../receiver/points.js';
import { baseFile, rot } from './base_rot.js';
import { JournalSite, SIZE } from './journal/journal_site.js';
import { exportOf, grades, recovered, resync, synced, writeMore, type Scene } from './synced_scene.js';

const KIB = 1024;
const BLOCK = 64 * KIB;

/** The grades, once `claim` holds of them. */
async function gradesOnce(scene: Scene, claim: (grades: string[]) => boolean): Promise<string[]> {
  for (const deadline = Date.now() + 20_000; ; await sleep(20)) {
    const found = await grades(scene);
    if (claim(found)) return found;
    if (Date.now() > deadline) throw new Error(`it never came: ${found.join(', ')}`);
  }
}
/** Returns how much was damaged. */
async function scrub({ receiver }: Scene): Promise<bigint> {
  return (await receiver.stream('scrub', { group: 'db', rateMax: 0n })).at(-1)?.damaged ?? 0n;
}
const isAnyDamaged = (found: string[]): boolean => found.some((grade) => grade.startsWith('damaged'));

t.test('a block that every point needs: nothing is ordered until the agent has compared', async (t) => {
  const scene = await synced(t);
  const { receiver, agent, stream } = scene;
  await writeMore(scene, 10);
  const last = agent.position().lsn;
  // Zero all over when it was copied, and never written: a hole of the base that becomes data.
  await rot(await baseFile(scene), 40 * BLOCK + 5);
  const target = path.join(receiver.directory, 'out');
  await t.rejects(receiver.recover({ point: 'latest', target }), {
    code: 'BASE_CORRUPT',
    message: /\.img, at byte/,
  });
  await stream.ended();
  const found = await gradesOnce(scene, isAnyDamaged);
  t.notMatch(found.join(), /ordered/);
  // Symptom: the comparison met the damage again, and was cut off by the news of it, if it took long enough.
  t.equal(await resync(t, scene, last, () => sleep(2500)), 1, 'one block is sent again');
  t.match((await grades(scene)).at(-1), new RegExp(`^ordered ${last + 1n}-`));
  t.ok((await recovered(scene, 'latest')).equals(agent.present), 'repaired from the protected host');
  await receiver.stop();
  await receiver.run();
  t.ok((await recovered(scene, 'latest')).equals(agent.present));
});

t.test('a block that was written over: only the points before that are damaged', async (t) => {
  const scene = await synced(t);
  const { agent, stream } = scene;
  const [before = 0n] = (await writeMore(scene, 7)).slice(-1);
  // In two halves: with the first alone the block is still needed.
  const half = await agent.write(10 * BLOCK, randomBytes(BLOCK / 2));
  const over = await agent.write(10 * BLOCK + BLOCK / 2, randomBytes(BLOCK / 2));
  for (const frame of await agent.framesUpTo(over)) stream.ship(frame);
  await stream.hearAck(over);
  const last = (await writeMore(scene, 7)).at(-1) ?? 0n;
  await rot(await baseFile(scene), 10 * BLOCK + 100);
  t.ok((await recovered(scene, 'latest')).equals(agent.present), 'what does not need it is served');
  t.notOk(isAnyDamaged(await grades(scene)), 'and nobody has met it');
  await t.rejects(
    recovered(scene, `lsn:${before}`),
    { code: 'BASE_CORRUPT' },
    'what rotted is not shown (R5)',
  );
  const found = await gradesOnce(scene, isAnyDamaged);
  t.match(found, [/^damaged/, new RegExp(`^damaged \\d+-${half}$`), new RegExp(`^ordered ${over}-${last}$`)]);
  t.ok((await recovered(scene, `lsn:${over}`)).equals(agent.states.get(over) ?? Buffer.alloc(0)));
  await t.rejects(recovered(scene, `lsn:${half}`), { code: 'POINT_GRADE' });
  // The stream goes on: nothing of the present is in doubt.
  await writeMore(scene, 1);
  await t.rejects(scene.receiver.recover({ point: `lsn:${before}`, target: '/dev/null/x', force: true }));
  t.same(
    await grades(scene).then((now) => now.slice(0, 2)),
    found.slice(0, 2),
    'what is known is not found again',
  );
});

t.test('a block that rots when a comparison has mended another one, and all is in doubt again', async (t) => {
  // Symptom: what was found was taken for the block that was mended long ago: its points stayed `ordered`, and answered EIO.
  const scene = await synced(t);
  const { receiver, stream } = scene;
  const last = (await writeMore(scene, 10)).at(-1) ?? 0n;
  const file = await baseFile(scene);
  await rot(file, 40 * BLOCK + 5);
  await scrub(scene);
  await stream.ended();
  await resync(t, scene, last);
  t.match((await grades(scene)).at(-1), /^ordered/);
  const database = new Database(path.join(receiver.store, 'catalog.sqlite'));
  t.teardown(() => database.close());
  // As a heartbeat leaves it that says that the dirty log is void: the generation goes on.
  database.exec('UPDATE doubts SET whole = 1');
  await rot(file, 42 * BLOCK);
  await scrub(scene);
  const found = await grades(scene);
  t.notMatch(found.join(), /ordered/);
  t.equal(found.at(-1), 'gap 0-0', 'it is compared again');
});

t.test('a block that rots when the comparison has passed it', async (t) => {
  // Symptom: it was taken for what the comparison was there to mend.
  const scene = await synced(t);
  const { stream } = scene;
  const last = (await writeMore(scene, 10)).at(-1) ?? 0n;
  const file = await baseFile(scene);
  await rot(file, 40 * BLOCK + 5);
  await scrub(scene);
  await stream.ended();
  await resync(t, scene, last, async () => {
    await rot(file, 42 * BLOCK);
    await scrub(scene);
    t.match((await grades(scene)).at(-1), /^syncing/, 'the comparison goes on');
  });
  const found = await gradesOnce(scene, (now) => !now.at(-1)?.startsWith('ordered'));
  t.notMatch(found.join(), /ordered/);
  t.equal(found.at(-1), 'gap 0-0', 'it is compared again');
});

for (const meets of ['a point', 'a scrub', 'the start']) {
  t.test(`a base that is not there any more, met by ${meets}`, async (t) => {
    // Symptom: its points stayed `ordered`, failed one and all, and history was never shortened again.
    const scene = await synced(t);
    const { receiver, agent, stream } = scene;
    await writeMore(scene, 10);
    const last = agent.position().lsn;
    const file = await baseFile(scene);
    if (meets === 'the start') await receiver.stop();
    await unlink(file);
    if (meets === 'a point') {
      const target = path.join(receiver.directory, 'out');
      await t.rejects(receiver.recover({ point: 'latest', target }), { code: 'BASE_MISSING' });
    } else if (meets === 'a scrub') {
      t.ok((await scrub(scene)) > 0n);
    } else {
      await receiver.run();
    }
    await stream.ended();
    t.notMatch((await gradesOnce(scene, isAnyDamaged)).join(), /ordered/);
    t.ok((await resync(t, scene, last)) > 0);
    t.match((await grades(scene)).at(-1), /^ordered/);
    t.ok((await recovered(scene, 'latest')).equals(agent.present), 'repaired from the protected host');
  });
}

t.test('what an open export finds is recorded too', async (t) => {
  const scene = await synced(t);
  const { receiver, stream } = scene;
  await writeMore(scene, 3);
  await rot(await baseFile(scene), 50 * BLOCK);
  const info = await receiver.call('exportOpen', exportOf('latest'));
  const uri = info.volumes[0]?.uri ?? '';
  const { execFile } = await import('node:child_process');
  const said = await new Promise<string>((resolve) =>
    execFile('nbdcopy', [uri, 'null:'], (_error, stdout, stderr) => resolve(stdout + stderr)),
  );
  t.match(said, /Input\/output error|Bad message/i);
  await stream.ended();
  await gradesOnce(scene, isAnyDamaged);
  await receiver.call('exportClose', { id: info.id });
});

t.test(
  'more damage than a reader tells of: the base is read, and what was written over ends nothing',
  async (t) => {
    // Symptom: the newest point was taken to need it, and the generation was ended, again and again while somebody read on.
    const site = await JournalSite.create(t);
    const { catalog, store, members } = site;
    const { uuid, group } = site.row;
    const [volume] = catalog.volumes.volumes(uuid);
    const file = store.baseFile(group, uuid, volume?.uuid ?? '');
    await writeFile(file, randomBytes(SIZE));
    await native.completeBase(file);
    catalog.volumes.setBase(uuid, 0, 'BASE_COMPLETE', 0n, BigInt(SIZE));
    await rot(file, 100);
    const last = await site.write(3);
    const { access, log } = site.parts;
    const damage = new BaseDamage({
      ...{ catalog, store, access, native, log },
      points: new Points({ catalog, store, native, journals: members, access, nowNs: () => 1n }),
      journal: () => site.member.damaged,
    });
    damage.found(
      file,
      Array.from({ length: native.BAD_OFFSETS_MAX }, (_, block) => BigInt(block * BLOCK)),
    );
    await damage.idle();
    t.match(catalog.baseDamage.damage(uuid), [{ firstLsn: 0n, lastLsn: 0n, foundGeneration: 1n }]);
    t.equal(catalog.generations.newest(uuid)?.lastLsn, null, 'the generation goes on');
    await rot(file, 5 * BLOCK);
    damage.found(
      file,
      Array.from({ length: native.BAD_OFFSETS_MAX }, (_, block) => BigInt(block * BLOCK)),
    );
    await damage.idle();
    t.equal(catalog.generations.newest(uuid)?.lastLsn, last, 'what the newest one needs ends it');
  },
);
