/** What has rotted is found before somebody needs it, while everything goes on. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import type { ScrubProgress } from '../../proto/control.js';
import { baseFile, rot } from './base_rot.js';
import { newIdentity } from './scripted_agent.js';
import {
  grades,
  join,
  journalDirectory,
  recovered,
  resync,
  synced,
  writeMore,
  type Scene,
} from './synced_scene.js';

const KIB = 1024;

async function scrub(scene: Scene, rateMax = 0n, signal?: AbortSignal): Promise<ScrubProgress[]> {
  return scene.receiver.stream('scrub', { group: 'db', rateMax }, signal);
}
/** Large writes, so that there are sealed segments. Returns the last LSN. */
async function fill({ agent, stream }: Scene, count: number): Promise<bigint> {
  for (let index = 0; index < count; index += 1) {
    await agent.write((index % 16) * 256 * KIB, randomBytes(256 * KIB));
  }
  const last = agent.position().lsn;
  for (const frame of await agent.framesUpTo(last)) stream.ship(frame);
  await stream.hearAck(last);
  return last;
}
async function until(claim: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await claim()); await sleep(20)) {
    if (Date.now() > deadline) throw new Error('it never came');
  }
}

t.test('nothing is damaged, also while frames come in', async (t) => {
  const scene = await synced(t);
  await fill(scene, 20);
  const [messages] = await Promise.all([scrub(scene), writeMore(scene, 40)]);
  const last = messages.at(-1);
  t.match(last, { group: 'db', host: 'host1', phase: 'done', damaged: 0n });
  t.equal(last?.bytesDone, last?.bytesTotal);
  t.ok((last?.bytesTotal ?? 0n) > 8_000_000n, 'journal and base');
  t.ok(messages.length > 3);
  const { scrubs } = await scene.receiver.status();
  t.match(scrubs, [{ group: 'db', damaged: 0n, bytesTotal: 0n }]);
  t.ok((scrubs[0]?.finishedNs ?? 0n) > 0n);
  t.match((await grades(scene)).join(), /^syncing[^,]*,ordered[^,]*$/);
});

t.test(
  'a sealed segment that no point has met since: its instants are graded, and made up for',
  async (t) => {
    const scene = await synced(t);
    // So many that the second segment is sealed, and not so many that all of it is written over, however frames fall.
    const last = await fill(scene, 34);
    const directory = journalDirectory(scene);
    await until(async () => (await readdir(directory)).filter((name) => name.endsWith('.run')).length >= 2);
    const names = (await readdir(directory)).filter((name) => name.endsWith('.seg')).sort();
    const second = path.join(directory, names[1] ?? '');
    const bytes = await readFile(second);
    bytes.writeUInt8(bytes.readUInt8(2_000_000) ^ 1, 2_000_000);
    await writeFile(second, bytes);
    t.notMatch((await grades(scene)).join(), 'damaged');
    const messages = await scrub(scene);
    t.match(messages.at(-1), { phase: 'done', damaged: 1n });
    await scene.stream.ended();
    const found = await grades(scene);
    t.match(found.join(), /ordered \d+-\d+,damaged/);
    const lost = /damaged (\d+)-/.exec(found.join())?.[1] ?? '';
    const before = BigInt(lost) - 1n;
    t.ok((await recovered(scene, `lsn:${before}`)).equals(scene.agent.states.get(before) ?? Buffer.alloc(0)));
    t.match((await scene.receiver.status()).scrubs, [{ damaged: 1n }]);
    await resync(t, scene, last);
    t.ok((await recovered(scene, 'latest')).equals(scene.agent.present));
  },
);

for (const meets of ['a scrub', 'a point']) {
  t.test(`a sealed segment that is not there any more, met by ${meets}`, async (t) => {
    // Symptom: the scrub counted it, the points failed, and nothing was graded: for ever, and retention stood still.
    const scene = await synced(t);
    const last = await fill(scene, 34);
    const directory = journalDirectory(scene);
    await until(async () => (await readdir(directory)).filter((name) => name.endsWith('.run')).length >= 2);
    const names = (await readdir(directory)).filter((name) => name.endsWith('.seg')).sort();
    await unlink(path.join(directory, names[1] ?? ''));
    const lost = BigInt(names[1]?.slice(0, 20) ?? '');
    if (meets === 'a scrub') t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 1n });
    else await t.rejects(recovered(scene, 'latest'), { code: 'IO_ERROR', message: /No such file/ });
    await scene.stream.ended();
    await until(async () => (await grades(scene)).join().includes('damaged'));
    t.match((await grades(scene)).join(), new RegExp(`ordered \\d+-${lost - 1n},damaged ${lost}-`));
    await resync(t, scene, last);
    t.ok((await recovered(scene, 'latest')).equals(scene.agent.present));
    t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 0n }, 'what is known is not found again');
  });
}

t.test('a journal whose directory is not there has lost no segment', async (t) => {
  const scene = await synced(t);
  await fill(scene, 4);
  const directory = journalDirectory(scene);
  await rename(directory, `${directory}.away`);
  await t.rejects(scrub(scene), { code: 'IO_ERROR' });
  await rename(`${directory}.away`, directory);
  t.notMatch((await grades(scene)).join(), 'damaged');
  t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 0n });
});

t.test('a block of a base', async (t) => {
  const scene = await synced(t);
  await writeMore(scene, 3);
  await rot(await baseFile(scene), 45 * 64 * KIB);
  t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 1n });
  t.match((await grades(scene)).join(), /damaged/);
  t.notMatch((await grades(scene)).join(), /ordered/);
});

for (const [what, spoil, count] of [
  ['a page of them', (file: string) => rot(file, 512 + 20), 64n],
  ['their header', (file: string) => rot(file, 3), 64n],
  ['their file', (file: string) => unlink(file), 64n],
] as const) {
  t.test(`checksums of a base are lost, ${what}: told, and made anew`, async (t) => {
    // Symptom: the scrub said nothing, and what rotted later was shown as what was written.
    const scene = await synced(t);
    await writeMore(scene, 3);
    const base = await baseFile(scene);
    await spoil(base.replace('.img', '.sum'));
    t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 0n, unsummed: count });
    t.match((await scene.receiver.status()).scrubs, [{ damaged: 0n, unsummed: count }]);
    await rot(base, 45 * 64 * KIB);
    t.match((await scrub(scene)).at(-1), { phase: 'done', damaged: 1n, unsummed: 0n });
    t.notMatch((await grades(scene)).join(), /ordered/);
  });
}

t.test('one at a time; whoever asked for it can stop it', async (t) => {
  const scene = await synced(t);
  await fill(scene, 4);
  const stopping = new AbortController();
  const first = scrub(scene, 1024n, stopping.signal);
  const stopped = t.rejects(first, { code: 'INTERRUPTED' });
  await until(async () => (await scene.receiver.status()).scrubs.some(({ bytesTotal }) => bytesTotal > 0n));
  await t.rejects(scrub(scene), { code: 'SCRUB_BUSY' });
  stopping.abort();
  await stopped;
  await until(async () =>
    (await scene.receiver.status()).scrubs.every(({ bytesTotal }) => bytesTotal === 0n),
  );
  t.match((await scene.receiver.status()).scrubs, [{ finishedNs: 0n }], 'it does not count');
  t.match((await scrub(scene)).at(-1), { phase: 'done' });
  await t.rejects(scene.receiver.stream('scrub', { group: 'none', rateMax: 0n }), { code: 'GROUP_UNKNOWN' });
});

t.test('by itself, when it is due', async (t) => {
  const scene = await synced(t);
  await writeMore(scene, 3);
  await rot(await baseFile(scene), 45 * 64 * KIB);
  await scene.receiver.stop();
  await scene.receiver.run('[scrub]\nevery = "1s"', { scrubLookMs: 20 });
  await until(async () =>
    (await scene.receiver.status()).scrubs.some(
      ({ damaged, finishedNs, bytesTotal }) => damaged === 1n && finishedNs > 0n && bytesTotal === 0n,
    ),
  );
  t.match((await grades(scene)).join(), /damaged/);
  await scene.receiver.stop();
  await scene.receiver.run('[scrub]\nenabled = false\nevery = "1s"', { scrubLookMs: 20 });
  const { scrubs } = await scene.receiver.status();
  await sleep(1500);
  t.same((await scene.receiver.status()).scrubs, scrubs);
});

/** When the group was scrubbed last, ns. */
async function finished({ receiver }: Pick<Scene, 'receiver'>, name: string): Promise<bigint> {
  return (await receiver.status()).scrubs.find(({ group }) => group === name)?.finishedNs ?? 0n;
}

t.test('a group that cannot be scrubbed keeps no other from it', async (t) => {
  // Symptom: it was the one whose last scrub was the longest ago, each minute anew, and none after it was ever scrubbed.
  const scene = await synced(t);
  const { receiver } = scene;
  await join(t, receiver, newIdentity(), 'host2', 'data', 'other');
  const directory = journalDirectory(scene);
  await rename(directory, `${directory}.away`);
  await t.rejects(receiver.stream('scrub', { group: '', rateMax: 0n }), {
    code: 'IO_ERROR',
    message: /^db on host1/,
  });
  t.equal(await finished(scene, 'db'), 0n);
  t.ok((await finished(scene, 'other')) > 0n, 'the others were, when all were to be');
  await rename(`${directory}.away`, directory);

  await receiver.stop();
  await receiver.run('[scrub]\nevery = "1s"', { scrubLookMs: 20 });
  await until(async () => (await finished(scene, 'db')) > 0n);
  await rename(directory, `${directory}.away`);
  for (let round = 0; round < 3; round += 1) {
    const before = await finished(scene, 'other');
    await until(async () => (await finished(scene, 'other')) > before);
  }
  await rename(`${directory}.away`, directory);
});

t.test('a scrub that ended while the clock was ahead keeps nobody from the next one', async (t) => {
  const scene = await synced(t);
  await scrub(scene);
  const { receiver } = scene;
  await receiver.stop();
  const aheadNs = BigInt(Date.now() + 365 * 86_400_000) * 1_000_000n;
  const database = new Database(path.join(receiver.store, 'catalog.sqlite'));
  database.prepare('UPDATE scrubs SET finished_ns = ?').run(aheadNs);
  database.close();
  await receiver.run('[scrub]\nevery = "1h"', { scrubLookMs: 20 });
  await until(async () => (await finished(scene, 'db')) < aheadNs);
});
