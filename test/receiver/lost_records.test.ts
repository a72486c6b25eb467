/**
 * Records that the journal loses touch instants up to the one at which the last of what they had set was set again, and no
 * others (R5). Each situation is a real store, a frame of which rots; then every instant is opened, whatever its grade, and
 * compared with what its volumes held: none that is called `ordered` may be wrong, and, where it can be known, none that is
 * called `damaged` behind the hole may be right.
 */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import type { Test } from 'tap';
import { checkStore } from './fsck/checked_store.js';
import { formatTime } from '../../proto/time.js';
import { RunningReceiver } from './running_receiver.js';
import { newIdentity, ScriptedAgent, ScriptedStream, type ScriptedVolume } from './scripted_agent.js';
import { grades, journalDirectory, offsetOf, type Scene } from './synced_scene.js';

t.setTimeout(300_000);

const KIB = 1024;
const SIZE = 2048 * KIB;
/** Where nothing but filling is written. */
const FILLED = SIZE / 2;

/** An agent with two volumes, `data` and `data1`, each written to record by record: a frame each. */
class Site {
  private constructor(
    readonly scene: Scene,
    readonly other: ScriptedVolume,
  ) {}

  static async of(test: Test): Promise<Site> {
    const receiver = await RunningReceiver.start(test);
    const agent = await ScriptedAgent.create(receiver.directory, newIdentity(), SIZE);
    test.teardown(() => agent.close());
    const other = await agent.addVolume(receiver.directory, 1, SIZE);
    const stream = new ScriptedStream(receiver.address);
    test.teardown(() => stream.close());
    const volumes = [agent.info, other.info];
    stream.say({ hello: agent.hello({ volumes }) });
    const { hashKey } = await stream.hear('welcome');
    stream.say({ generationBegin: { generation: 1n, firstLsn: 1n, reason: 'NEW', volumes } });
    await stream.hear('generationAccepted');
    agent.begin(1n, 1n);
    const site = new Site({ receiver, agent, stream, hashKey }, other);
    for (const volume of [agent, other]) {
      await volume.sendBase(stream);
      const lsn = await site.shipped(volume.write(0, randomBytes(512)));
      stream.say({ syncDone: { volume: volume.info.number, lsn } });
      await stream.hear('syncComplete');
    }
    return site;
  }

  get agent(): ScriptedAgent {
    return this.scene.agent;
  }
  write(offset: number, length: number): Promise<bigint> {
    return this.shipped(this.agent.write(offset, randomBytes(length)));
  }
  zero(offset: number, length: number): Promise<bigint> {
    return this.shipped(this.agent.zero(offset, length));
  }
  async shipped(written: Promise<bigint>): Promise<bigint> {
    const lsn = await written;
    for (const frame of await this.agent.framesUpTo(lsn)) this.scene.stream.ship(frame);
    await this.scene.stream.hearAck(lsn);
    return lsn;
  }

  /** Fills the present segment, so that what comes next is in another one; its run is there. */
  async seal(): Promise<void> {
    const sealed = async (): Promise<number> =>
      (await readdir(journalDirectory(this.scene))).filter((name) => name.endsWith('.run')).length;
    const before = await sealed();
    for (let count = 0; (await sealed()) === before; count += 1) {
      if (count > 200) throw new Error('no segment was sealed');
      if (count < 10) await this.write(FILLED, 512 * KIB);
      else await sleep(50);
    }
  }

  private async segmentOf(lsn: bigint): Promise<string> {
    const directory = journalDirectory(this.scene);
    const names = (await readdir(directory)).filter((name) => name.endsWith('.seg')).sort();
    return path.join(directory, names.findLast((name) => BigInt(name.slice(0, 20)) <= lsn) ?? '');
  }
  /** A byte of the record's frame is not what was written. */
  async rot(lsn: bigint): Promise<void> {
    const file = await this.segmentOf(lsn);
    const bytes = await readFile(file);
    const at = offsetOf(bytes, lsn);
    bytes.writeUInt8(bytes.readUInt8(at + 200) ^ 0xff, at + 200);
    await writeFile(file, bytes);
  }
  async runOf(lsn: bigint): Promise<string> {
    return (await this.segmentOf(lsn)).replace(/\.seg$/, '.run');
  }
  async scrub(): Promise<void> {
    await this.scene.receiver.stream('scrub', { group: 'db', rateMax: 0n });
  }
  /** first-last/touched, as the catalog has it. */
  rows(): string[] {
    const database = new Database(path.join(this.scene.receiver.store, 'catalog.sqlite'), { readonly: true });
    try {
      return database
        .prepare(
          `SELECT first_lsn || '-' || last_lsn || '/' || coalesce(touched_lsn, 'end') FROM damage ORDER BY 1`,
        )
        .pluck()
        .all() as string[];
    } finally {
      database.close();
    }
  }

  /**
   * Compares every instant. `isExact`: no instant is damaged that is right, but for those whose records are lost. Returns the
   * damaged ones, in runs.
   */
  async judge(test: Test, isExact: boolean): Promise<string> {
    const { receiver, agent } = this.scene;
    const { spans } = await receiver.call('timeline', { group: 'db' });
    const lost = this.rows().map((row) => row.split('/', 1)[0]?.split('-').map(BigInt) ?? []);
    const last = agent.position().lsn;
    const held = new Map<string, Buffer | undefined>();
    const damaged: bigint[] = [];
    let compared = 0;
    for (let lsn = 1n; lsn <= last; lsn += 1n) {
      for (const [name, { states }] of [
        ['data', agent],
        ['data1', this.other],
      ] as const) {
        if (states.has(lsn)) held.set(name, states.get(lsn));
      }
      const span = spans.find(
        ({ firstLsn, lastLsn, grade }) => grade !== 'gap' && firstLsn <= lsn && lsn <= lastLsn,
      );
      if (span === undefined || span.grade === 'syncing') continue;
      if (span.grade === 'damaged') damaged.push(lsn);
      const isLost = lost.some(([from = 0n, to = 0n]) => from <= lsn && lsn <= to);
      if (isLost) {
        if (span.grade !== 'damaged') test.fail(`LSN ${lsn} is lost and called ${span.grade}`);
        continue;
      }
      let isRight = true;
      for (const [name, content] of held) {
        const target = path.join(receiver.directory, `${name}-${lsn}`);
        await receiver.recover({ volume: name, point: `lsn:${lsn}`, target, force: true });
        isRight &&= (await readFile(target)).equals(content ?? Buffer.alloc(0));
        await rm(target);
      }
      compared += 1;
      if (span.grade === 'ordered' && !isRight) test.fail(`LSN ${lsn} is called ordered and is wrong`);
      if (isExact && span.grade === 'damaged' && isRight)
        test.fail(`LSN ${lsn} is called damaged and is right`);
    }
    test.ok(compared > 3, `${compared} instants compared`);
    return damaged
      .map(
        (lsn, index) =>
          (damaged[index - 1] === lsn - 1n ? '' : `${lsn}-`) +
          (damaged[index + 1] === lsn + 1n ? '' : `${lsn} `),
      )
      .join('')
      .trim();
  }
}

t.test('written over in two parts, in two later segments: up to the second', async (t) => {
  const site = await Site.of(t);
  await site.write(64 * KIB, 4 * KIB);
  const lost = await site.write(16 * KIB, 32 * KIB);
  await site.seal();
  await site.write(16 * KIB, 20 * KIB);
  await site.seal();
  await site.write(100 * KIB, 4 * KIB);
  const over = await site.write(30 * KIB, 32 * KIB);
  const after = await site.write(100 * KIB, 4 * KIB);
  await site.rot(lost);
  t.notMatch((await grades(site.scene)).join(), 'damaged', 'nobody has met it');
  await site.scrub();
  t.equal(await site.judge(t, true), `${lost}-${over - 1n}`);
  t.match((await grades(site.scene)).slice(-3), [
    new RegExp(`^ordered \\d+-${lost - 1n}$`),
    `damaged ${lost}-${over - 1n}`,
    `ordered ${over}-${after}`,
  ]);
  // The stream goes on: nothing of the present is in doubt.
  const more = await site.write(16 * KIB, 4 * KIB);
  t.equal((await grades(site.scene)).at(-1), `ordered ${over}-${more}`);
  const rows = site.rows();
  await site.scrub();
  t.same(site.rows(), rows, 'what is known is not found again');
  await site.scene.receiver.stop();
  const report = await checkStore(site.scene.receiver.store);
  t.equal(report.verdict, 'sound');
  const told = `touch instants to LSN ${over - 1n}`;
  t.ok(report.findings.some(({ code, message }) => code === 'DAMAGE_KNOWN' && message.includes(told)));
  await site.scene.receiver.run();
  t.same(site.rows(), rows);
  t.equal(await site.judge(t, true), `${lost}-${over - 1n}`, 'another receiver says the same');
});

t.test('an instant between two records is graded as the first of them', async (t) => {
  const site = await Site.of(t);
  const { receiver } = site.scene;
  const lost = await site.write(16 * KIB, 4 * KIB);
  await site.seal();
  await site.write(100 * KIB, 4 * KIB);
  await sleep(30);
  const over = await site.write(16 * KIB, 4 * KIB);
  await site.rot(lost);
  await site.scrub();
  const { spans } = await receiver.call('timeline', { group: 'db' });
  const [damaged, ordered] = spans.slice(-2);
  t.match(
    [damaged, ordered],
    [
      { grade: 'damaged', lastLsn: over - 1n },
      { grade: 'ordered', firstLsn: over },
    ],
  );
  const at = (ns: bigint) =>
    receiver.recover({ point: formatTime(ns), target: path.join(receiver.directory, `at-${ns}`) });
  const beginNs = ordered?.beginNs ?? 0n;
  t.equal(beginNs, damaged?.endNs);
  await t.rejects(at(beginNs + 5_000_000n), {
    code: 'POINT_GRADE',
    message: new RegExp(`LSN ${over - 1n},`),
  });
  await at(ordered?.endNs ?? 0n);
});

t.test('written over by a trim; and zeroes that were lost themselves', async (t) => {
  const site = await Site.of(t);
  await site.zero(200 * KIB, 8 * KIB);
  await site.write(48 * KIB, 4 * KIB);
  const lost = await site.write(16 * KIB, 16 * KIB);
  // Over data, over what the base has, and over zeroes: of the last there is nothing to miss.
  await site.zero(46 * KIB, 8 * KIB);
  await site.zero(200 * KIB, 8 * KIB);
  await site.seal();
  await site.zero(8 * KIB, 64 * KIB - 8 * KIB - 512);
  const part = await site.write(63 * KIB + 512, 512);
  await site.rot(lost);
  await site.scrub();
  t.equal(await site.judge(t, true), `${lost}-${rowEnd(site)}`);
  t.ok(rowEnd(site) < part, 'the trim set all of it');
});
const rowEnd = (site: Site): bigint => {
  const end = site.rows()[0]?.split('/')[1];
  return end === undefined || end === 'end' ? 0n : BigInt(end);
};

t.test('several volumes: until the last of them', async (t) => {
  const site = await Site.of(t);
  const lost = await site.write(16 * KIB, 16 * KIB);
  await site.shipped(site.other.write(400 * KIB, randomBytes(8 * KIB)));
  await site.seal();
  await site.write(400 * KIB, 8 * KIB);
  await site.shipped(site.other.write(16 * KIB, randomBytes(16 * KIB)));
  await site.write(16 * KIB, 16 * KIB);
  await site.seal();
  await site.shipped(site.other.write(404 * KIB, randomBytes(16 * KIB)));
  await site.write(0, 4 * KIB);
  const over = await site.shipped(site.other.zero(396 * KIB, 8 * KIB));
  await site.write(0, 4 * KIB);
  await site.rot(lost);
  await site.scrub();
  t.equal(await site.judge(t, true), `${lost}-${over - 1n}`);
});

t.test('a volume that nobody has written again: to the end, and compared anew', async (t) => {
  const site = await Site.of(t);
  const { agent } = site;
  const lost = await site.shipped(site.other.write(400 * KIB, randomBytes(8 * KIB)));
  await site.seal();
  await site.write(400 * KIB, 8 * KIB);
  await site.shipped(site.other.write(396 * KIB, randomBytes(8 * KIB)));
  const last = await site.write(396 * KIB, 8 * KIB);
  await site.rot(lost);
  await site.scrub();
  await site.scene.stream.ended();
  t.same(await grades(site.scene).then((found) => found.slice(-2)), [`damaged ${lost}-${last}`, 'gap 0-0']);
  t.match(site.rows(), [/\/end$/]);
  t.equal(await site.judge(t, true), `${lost}-${last}`);
  t.equal(agent.position().lsn, last);
});

for (const order of ['together', 'the later one first', 'the earlier one first'] as const) {
  t.test(
    `two holes, of which the later one has what had set the earlier one's again: ${order}`,
    async (t) => {
      const site = await Site.of(t);
      const first = await site.write(16 * KIB, 16 * KIB);
      await site.seal();
      await site.write(200 * KIB, 4 * KIB);
      const second = await site.write(16 * KIB, 16 * KIB);
      await site.write(100 * KIB, 4 * KIB);
      await site.seal();
      await site.write(100 * KIB, 4 * KIB);
      await site.write(200 * KIB, 4 * KIB);
      const over = await site.write(16 * KIB, 16 * KIB);
      await site.write(200 * KIB, 4 * KIB);
      const parts = order === 'the later one first' ? [[second], [first]] : [[first], [second]];
      for (const lsns of order === 'together' ? [[first, second]] : parts) {
        for (const lsn of lsns) await site.rot(lsn);
        await site.scrub();
        await site.judge(t, true);
      }
      t.equal(site.rows().length, 2);
      const damaged = await site.judge(t, true);
      // In between the first one's record is there, up to the second hole.
      t.match(damaged, new RegExp(`^${first}-.*${over - 1n}$`));
    },
  );
}

t.test('two holes far apart: what lies between them is ordered', async (t) => {
  const site = await Site.of(t);
  const first = await site.write(16 * KIB, 16 * KIB);
  await site.seal();
  const over = await site.write(16 * KIB, 16 * KIB);
  await site.seal();
  const second = await site.write(32 * KIB, 4 * KIB);
  await site.seal();
  const last = await site.write(32 * KIB, 4 * KIB);
  for (const lsn of [first, second]) await site.rot(lsn);
  await site.scrub();
  t.equal(await site.judge(t, true), `${first}-${over - 1n} ${second}-${last - 1n}`);
});

t.test(
  'a second hole in the same segment, found later: its run is of what the segment was before',
  async (t) => {
    const site = await Site.of(t);
    const second = await site.write(32 * KIB, 4 * KIB);
    await site.write(64 * KIB, 4 * KIB);
    const first = await site.write(16 * KIB, 4 * KIB);
    await site.seal();
    for (const offset of [16, 32, 64]) await site.write(offset * KIB, 4 * KIB);
    const last = await site.write(16 * KIB, 4 * KIB);
    await site.rot(first);
    await site.scrub();
    t.match(site.rows(), [new RegExp(`^${first}-`)]);
    await site.judge(t, true);
    await site.rot(second);
    await site.scrub();
    t.ok(site.rows().includes(`${second}-${first - 1n}/end`), site.rows().join());
    t.equal(await site.judge(t, false), `${second}-${last}`);
  },
);

for (const what of ['missing', 'damaged', 'of another segment'] as const) {
  t.test(`a run that is ${what}: what is not known counts as damaged`, async (t) => {
    const site = await Site.of(t);
    const lost = await site.write(16 * KIB, 4 * KIB);
    await site.seal();
    const over = await site.write(16 * KIB, 4 * KIB);
    await site.seal();
    const last = await site.write(16 * KIB, 4 * KIB);
    const run = await site.runOf(lost);
    if (what === 'missing') await rm(run);
    else if (what === 'damaged') {
      const bytes = await readFile(run);
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 4096 + 8) ^ 1, bytes.length - 4096 + 8);
      await writeFile(run, bytes);
    } else await writeFile(run, await readFile(await site.runOf(over)));
    await site.rot(lost);
    await site.scrub();
    t.match(site.rows(), [/\/end$/]);
    t.equal(await site.judge(t, false), `${lost}-${last}`);
  });
}

t.test('the segments that set it again have no run', async (t) => {
  const site = await Site.of(t);
  const lost = await site.write(16 * KIB, 4 * KIB);
  await site.seal();
  await site.write(64 * KIB, 4 * KIB);
  const over = await site.write(16 * KIB, 4 * KIB);
  await site.seal();
  await rm(await site.runOf(over));
  await site.rot(lost);
  await site.scrub();
  t.equal(await site.judge(t, true), `${lost}-${over - 1n}`);
});

t.test('the first frame of a segment: nothing of it is left', async (t) => {
  const site = await Site.of(t);
  await site.write(16 * KIB, 4 * KIB);
  await site.seal();
  const lost = await site.write(32 * KIB, 4 * KIB);
  await site.seal();
  await site.write(16 * KIB, 4 * KIB);
  const over = await site.write(32 * KIB, 4 * KIB);
  const first = BigInt(path.basename(await site.runOf(lost)).slice(0, 20));
  await site.rot(first);
  await site.scrub();
  t.equal(await site.judge(t, true), `${first}-${over - 1n}`);
});

t.test('found when a later generation has begun, and set again there', async (t) => {
  const site = await Site.of(t);
  const { agent, scene } = site;
  const lost = await site.write(16 * KIB, 16 * KIB);
  const other = await site.write(200 * KIB, 4 * KIB);
  await site.seal();
  const last = await site.write(200 * KIB, 4 * KIB);
  // The ring was full: the generation ends.
  const volumes = [agent.info, site.other.info];
  const timeNs = agent.position().timeNs + 1n;
  agent.endStream();
  await agent.end();
  scene.stream.say({ streamEnd: { generation: 1n, lastLsn: last, reason: 'RING_FULL', timeNs } });
  const firstLsn = last + 10n;
  scene.stream.say({ generationBegin: { generation: 2n, firstLsn, reason: 'RING_FULL', volumes } });
  await scene.stream.hear('generationAccepted');
  agent.begin(2n, firstLsn);
  // What the resync sends has a half of what was lost in it.
  let ordered = 0n;
  for (const [number, volume] of [agent, site.other].entries()) {
    scene.stream.say({ syncBegin: { volume: number, kind: 'SYNC_RESYNC', offset: 0n, partial: true } });
    ordered = await site.shipped(volume.republish(16 * KIB, 8 * KIB));
    scene.stream.say({ syncDone: { volume: number, lsn: ordered } });
    await scene.stream.hear('syncComplete');
  }
  await site.write(300 * KIB, 4 * KIB);
  const over = await site.write(20 * KIB, 16 * KIB);
  await site.write(300 * KIB, 4 * KIB);
  t.ok(other > lost);
  await site.rot(lost);
  await site.scrub();
  await site.judge(t, true);
  const found = await grades(scene);
  t.match(found.slice(-6), [
    new RegExp(`^ordered \\d+-${lost - 1n}$`),
    `damaged ${lost}-${last}`,
    'gap 0-0',
    `damaged ${firstLsn}-${ordered - 1n}`,
    `damaged ${ordered}-${over - 1n}`,
    new RegExp(`^ordered ${over}-`),
  ]);
});
