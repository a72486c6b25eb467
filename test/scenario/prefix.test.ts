/**
 * R1–R3 end to end: concurrent writers over two volumes of one group, one through libnbd and one through its loop
 * device, a share of them overlapping in flight; then dozens of points, by LSN and by time. Each is judged by the oracle
 * (what the writers saw) and by an independent replay of the journal (exactly the records up to its LSN); a share of
 * them is read from an export by libnbd too.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { replayAt, verifyRuns } from '../replay/replay.js';
import { formatTime } from '../../proto/time.js';
import { command } from './command.js';
import { Oracle, readOperations, type Operation } from './oracle.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
import { memberDirectory, Site } from './site.js';

t.setTimeout(600_000);

/** Several segments of them. */
const OPERATIONS_MIN = 16_000;
const SECONDS = Number(process.env['AFTERIMAGE_SECONDS'] ?? 6);
const POINTS = Number(process.env['AFTERIMAGE_POINTS'] ?? 24);
/** Every so many points are exported as well: an odd number, so that points by time are among them. */
const EXPORT_EVERY = 5;
const VOLUME_BYTES = 24 << 20;
const MIB = 1 << 20;
const GROUP = `oracle-${process.pid}`;
const STAMP_WRITER = fileURLToPath(new URL('../../../test/scenario/stamp_writer.py', import.meta.url));
const VOLUMES = [
  { name: 'one', attach: 'socket' },
  { name: 'two', attach: 'loop' },
] as const;

interface Export {
  id: string;
  volumes: { uri: string }[];
}
interface Recovered {
  volumes: { lsn: string }[];
}
interface Point {
  lsn: string;
}
interface Judged {
  point: string;
  hashes: string[];
}

t.test(`every point is a prefix of what the writers saw (seed ${SEED})`, async (t) => {
  const scratch = await Scratch.create('prefix');
  t.teardown(() => scratch.clean());
  const backing = (name: string): string => scratch.path(`${name}.img`);
  for (const { name } of VOLUMES) await command('truncate', ['-s', String(VOLUME_BYTES), backing(name)]);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: VOLUMES.map(({ name, attach }) => ({ name, backing: backing(name), attach })),
    segmentBytes: '4MiB',
  });
  await site.start();
  const ready = await site.settled();
  const targets = ready.volumes.map(({ device }) =>
    device.startsWith('/dev/') ? device : `nbd+unix:///?socket=${device.replace(/^unix:/, '')}`,
  );
  t.match(targets, [/^nbd\+unix:/, /^\/dev\/loop/]);

  const log = scratch.path('operations.jsonl');
  const writers = [
    ...['--seed', String(SEED), '--seconds', String(SECONDS), '--operations-min', String(OPERATIONS_MIN)],
    ...['--writers', '6', '--log', log],
  ];
  const aims = targets.flatMap((target) => ['--target', target]);
  await command('/usr/bin/python3', [STAMP_WRITER, ...aims, ...writers], { secondsMax: SECONDS + 240 });
  const settled = await site.settled();
  t.equal(settled.generation, ready.generation, 'the stream never broke');

  const operations = await readOperations(log);
  const oracle = new Oracle(
    operations,
    VOLUMES.map(() => VOLUME_BYTES),
  );
  VOLUMES.forEach(({ attach }, volume) => {
    const own = operations.filter((operation) => operation.volume === volume);
    const count = (is: (operation: Operation) => boolean): number => own.filter(is).length;
    const overlaps = oracle.overlapsInFlight(volume);
    const large = count(({ kind, length }) => kind === 'write' && length >= MIB);
    const trims = count(({ kind }) => kind === 'trim');
    const zeroes = count(({ kind }) => kind === 'zero');
    t.ok(own.length > 250, `${attach}: ${own.length} operations`);
    t.ok(overlaps > own.length / 50, `${overlaps} of them overlapped another in flight`);
    t.ok(large > 0, `${large} wrote a MiB or more`);
    t.ok(trims > own.length / 50 && zeroes > own.length / 50, `${trims} trimmed, ${zeroes} zeroed`);
  });

  const first = BigInt(ready.durableLsn) + 1n;
  const last = BigInt(settled.durableLsn);
  const begin = operations.reduce(
    (min, o) => (o.submitNs < min ? o.submitNs : min),
    operations[0]?.submitNs ?? 0n,
  );
  const end = operations.reduce((max, o) => (o.ackNs > max ? o.ackNs : max), 0n);
  const random = pseudorandom(SEED);
  const pick = (from: bigint, to: bigint): bigint => from + BigInt(Math.floor(random() * Number(to - from)));

  const directory = scratch.path('recovered');
  const recover = async (point: string): Promise<{ lsn: bigint; images: Buffer[] }> => {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
    const { volumes } = await site.ask<Recovered>('recover', GROUP, '--at', point, '--to', directory);
    const images = VOLUMES.map(({ name }) => readFile(path.join(directory, `${name}.img`)));
    return { lsn: BigInt(volumes[0]?.lsn ?? 0), images: await Promise.all(images) };
  };

  const judged = new Map<bigint, Judged[]>();
  for (let i = 0; i < POINTS; i += 1) {
    const timeNs = i % 2 === 0 ? pick(begin, end) : null;
    const named = timeNs === null ? pick(first, last) : null;
    const point = timeNs === null ? `lsn:${named}` : formatTime(timeNs);
    const { lsn, images } = await recover(point);
    const told = BigInt((await site.ask<Point>('timeline', GROUP, '--at', point)).lsn);
    t.equal(lsn, named ?? told, `${point} is lsn:${lsn}`);
    const verdict = oracle.judge(images, timeNs);
    t.same(verdict.violations, [], `it holds what the writers saw, in ${verdict.sectorsWritten} sectors`);
    const hashes = images.map(sha256);
    judged.set(lsn, [...(judged.get(lsn) ?? []), { point, hashes }]);
    if (i % EXPORT_EVERY !== 0) continue;

    const opened = await site.ask<Export>('export', GROUP, '--at', point);
    for (const [volume, { uri }] of opened.volumes.entries()) {
      const copy = scratch.path(`copy-${volume}.img`);
      await command('nbdcopy', [uri, copy]);
      t.equal(sha256(await readFile(copy)), hashes[volume], `libnbd reads the same of volume ${volume}`);
      await rm(copy);
    }
    await site.ask('export', 'close', opened.id);
  }

  const member = await memberDirectory(site.store);
  const numbers = VOLUMES.map((_, volume) => volume);
  for await (const { lsn, contents } of replayAt(member, numbers, [...judged.keys()])) {
    const hashes = numbers.map((volume) => sha256(contents.get(volume) ?? Buffer.alloc(0)));
    for (const each of judged.get(lsn) ?? [])
      t.same(each.hashes, hashes, `${each.point}: exactly the records up to lsn:${lsn}, says the replay`);
    judged.delete(lsn);
  }
  t.equal(judged.size, 0, 'all were replayed');

  const { images } = await recover('latest');
  t.equal(await site.agent.stop(), 0, 'the agent stops cleanly');
  for (const [volume, { name }] of VOLUMES.entries()) {
    const production = sha256(await readFile(backing(name)));
    t.equal(
      sha256(images[volume] as Buffer),
      production,
      `${name}: the latest point is what the backing holds`,
    );
  }
  const runs = async (): Promise<number> =>
    (await readdir(path.join(member, 'journal'))).filter((file) => file.endsWith('.run')).length;
  // They are built beside all else, and one that is not built when the receiver stops is none.
  for (let waits = 0; waits < 300 && (await runs()) < 2; waits += 1) await sleep(100);
  t.equal(await site.receiver.stop(), 0, 'and so does the receiver');
  const made = await runs();
  t.ok(made >= 2, `${made} runs were made`);
  t.same(await verifyRuns(member), [], 'and say what the segments say');
});

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
