/**
 * R1–R3 end to end: concurrent writers over two volumes of one group, through libnbd, a share of them overlapping in
 * flight; then dozens of points, by LSN and by time, judged by the oracle, by an independent replay of the journal
 * and by libnbd's own reader of the export.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { replayVolume } from '../replay/replay.js';
import { command } from './command.js';
import { Oracle, readOperations } from './oracle.js';
import { Scratch } from './scratch.js';
import { afterimage, Site } from './site.js';

t.setTimeout(600_000);

const SEED = Number(process.env['AFTERIMAGE_SEED'] ?? Math.floor(Date.now() / 86_400_000));
const SECONDS = Number(process.env['AFTERIMAGE_SECONDS'] ?? 6);
const POINTS = Number(process.env['AFTERIMAGE_POINTS'] ?? 24);
const EXPORTS = 4;
const VOLUME_BYTES = 24 << 20;
const GROUP = 'oracle';
const STAMP_WRITER = fileURLToPath(new URL('../../../test/scenario/stamp_writer.py', import.meta.url));

interface Export {
  id: string;
  volumes: { uri: string }[];
}

function* pseudorandom(seed: number): Generator<number, never> {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

t.test(`every point is a prefix of what the writers saw (seed ${SEED})`, async (t) => {
  const scratch = await Scratch.create('prefix');
  t.teardown(() => scratch.clean());
  const names = ['one', 'two'];
  for (const name of names)
    await command('truncate', ['-s', String(VOLUME_BYTES), scratch.path(`${name}.img`)]);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: names.map((name) => ({ name, backing: scratch.path(`${name}.img`), attach: 'socket' as const })),
    segmentBytes: '8MiB',
  });
  await site.start();
  const ready = await site.settled();
  const uris = ready.volumes.map((volume) => `nbd+unix:///?socket=${volume.device.replace(/^unix:/, '')}`);

  const log = scratch.path('operations.jsonl');
  const writers = ['--seed', String(SEED), '--seconds', String(SECONDS), '--writers', '6', '--log', log];
  await command('/usr/bin/python3', [STAMP_WRITER, ...uris.flatMap((uri) => ['--uri', uri]), ...writers], {
    secondsMax: SECONDS + 60,
  });
  const settled = await site.settled();
  t.equal(settled.generation, ready.generation, 'the stream never broke');

  const operations = await readOperations(log);
  const oracle = new Oracle(operations, [VOLUME_BYTES, VOLUME_BYTES]);
  t.comment(`${operations.length} operations, ${oracle.overlapsInFlight()} overlapped another in flight`);
  t.ok(operations.length > 500, 'the writers wrote');
  t.ok(oracle.overlapsInFlight() > operations.length / 50, 'R2 was put to the test');

  const first = BigInt(ready.durableLsn) + 1n;
  const last = BigInt(settled.durableLsn);
  const begin = operations.reduce(
    (min, o) => (o.submitNs < min ? o.submitNs : min),
    operations[0]?.submitNs ?? 0n,
  );
  const end = operations.reduce((max, o) => (o.ackNs > max ? o.ackNs : max), 0n);
  const random = pseudorandom(SEED);
  const pick = (from: bigint, to: bigint): bigint =>
    from + BigInt(Math.floor(random.next().value * Number(to - from)));

  const recover = async (point: string): Promise<Buffer[]> => {
    const directory = scratch.path('recovered');
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
    await afterimage(['recover', GROUP, '--at', point, '--to', directory, '--control', site.receiverControl]);
    return Promise.all(names.map((name) => readFile(path.join(directory, `${name}.img`))));
  };

  for (let i = 0; i < POINTS; i += 1) {
    const timeNs = i % 2 === 0 ? pick(begin, end) : null;
    const lsn = timeNs === null ? pick(first, last) : null;
    const point = timeNs === null ? `lsn:${lsn}` : rfc3339(timeNs);
    const images = await recover(point);
    const verdict = oracle.judge(images, timeNs);
    t.same(verdict.violations, [], `${point}: ${verdict.sectorsWritten} sectors written`);
  }

  const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  for (let i = 0; i < EXPORTS; i += 1) {
    const lsn = pick(first, last);
    const images = await recover(`lsn:${lsn}`);
    const opened = await site.ask<Export>('export', GROUP, '--at', `lsn:${lsn}`);
    const member = await memberDirectory(site.store);
    for (const [volume, image] of images.entries()) {
      const copy = scratch.path(`copy-${volume}.img`);
      await command('nbdcopy', [opened.volumes[volume]?.uri ?? '', copy]);
      t.equal(
        sha256(await readFile(copy)),
        sha256(image),
        `lsn:${lsn} volume ${volume}: libnbd reads the same from the export`,
      );
      await rm(copy);
      const replayed = await replayVolume({ directory: member, volume, bytes: VOLUME_BYTES, lsn });
      t.equal(
        sha256(replayed),
        sha256(image),
        `lsn:${lsn} volume ${volume}: an independent replay gives the same`,
      );
    }
    await site.ask('export', 'close', opened.id);
  }

  const latest = await recover('latest');
  t.equal(await site.agent.stop(), 0, 'the agent stops cleanly');
  for (const [volume, name] of names.entries()) {
    const backing = await readFile(scratch.path(`${name}.img`));
    t.equal(
      sha256(backing),
      sha256(latest[volume] as Buffer),
      `${name}: the latest point is what the backing holds`,
    );
  }
});

/** …/groups/<group>/<member>, of which this store has one. */
async function memberDirectory(store: string): Promise<string> {
  const groups = path.join(store, 'groups');
  const [group] = await readdir(groups);
  const [member] = await readdir(path.join(groups, group ?? ''));
  return path.join(groups, group ?? '', member ?? '');
}

function rfc3339(timeNs: bigint): string {
  const seconds = new Date(Number(timeNs / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${String(timeNs % 1_000_000_000n).padStart(9, '0')}Z`;
}
