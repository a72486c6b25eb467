/**
 * A store on a disk that is far too small for what is written: history is shortened to make room for it, down to the floor
 * and no further; then ingest is refused, which both ends say, and goes on by itself.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { nbdUri, Site, type GroupReport } from './site.js';

t.setTimeout(600_000);

const GROUP = 'small';
const BYTES = 32 << 20;
/** Longer than between two rounds of retention, which goes on until there is room. */
const ROUND_MS = 3000;
const RETENTION = 'retention = { window = "24h", floor = "FLOOR" }';

t.test('a disk that is too small for the window: down to the floor, and back', async (t) => {
  const scratch = await Scratch.create('retention');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const image = scratch.path('disk.img');
  const disk = scratch.path('disk');
  await mkdir(disk);
  await command('truncate', ['-s', '176M', image]);
  await command('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  await command('mount', ['-o', 'loop', image, disk]);
  scratch.defer('small disk', () => command('umount', [disk]));
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
    ringBytes: '256MiB',
    segmentBytes: '4MiB',
    store: `${disk}/store`,
    receiver: RETENTION.replace('FLOOR', '1s'),
  });
  await site.start();
  const ready = await site.settled();
  const uri = nbdUri(ready);
  const write = (megabytes: number, seed: number): Promise<unknown> =>
    command('fio', [
      '--name=fill',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bs=64k',
      '--iodepth=4',
      `--io_size=${megabytes}M`,
      `--size=${BYTES}`,
      '--refill_buffers',
      `--randseed=${seed}`,
    ]);

  // More than the disk holds. Nothing is lost of it, and nobody had to do anything.
  const points: { lsn: string; content: Buffer }[] = [];
  for (let seed = 1; seed <= 9; seed += 1) {
    await write(32, seed);
    const { durableLsn, generation } = await site.settled(120);
    t.equal(generation, ready.generation);
    points.push({ lsn: durableLsn, content: await readFile(backing) });
  }
  const short = await shortened(site);
  t.ok(BigInt(short.oldestLsn) > 1n, `the window begins with LSN ${short.oldestLsn}`);
  const held = points.filter(({ lsn }) => BigInt(lsn) >= BigInt(short.oldestLsn));
  t.ok(held.length > 0 && held.length < points.length, `${held.length} of ${points.length} points are held`);
  for (const { lsn, content } of held)
    t.ok((await site.recovered('disk', `lsn:${lsn}`)).equals(content), `LSN ${lsn} is what was there`);
  await t.rejects(site.recovered('disk', `lsn:${points[0]?.lsn ?? ''}`), { message: /POINT_EXPIRED/ });

  // A floor that forbids it: ingest is refused rather than that.
  await restart('1h');
  const floor = await site.receiverGroup();
  await write(160, 20);
  const full = await site.waitFor('told that the store is full', 60, (group) =>
    JSON.stringify(group).includes('JOURNAL_FULL'),
  );
  t.equal(full.generation, ready.generation, 'the ring holds what the store cannot');
  const refused = await site.receiverGroup();
  t.match(refused.detail, /JOURNAL_FULL/, 'the receiver says so too');
  t.match(refused.retentionHeldBy, /the floor/, 'and why it does not make room');
  t.equal(refused.oldestLsn, floor.oldestLsn, 'nothing younger than the floor has gone');
  const last = held.at(-1);
  t.ok((await site.recovered('disk', `lsn:${last?.lsn ?? ''}`)).equals(last?.content ?? Buffer.alloc(0)));

  await restart('1s');
  const again = await site.settled(120);
  t.equal(again.generation, ready.generation, 'the stream goes on by itself');
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));

  async function restart(floor: string): Promise<void> {
    await site.receiver.stop();
    const file = scratch.path('receiver.toml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/^retention = .*$/m, RETENTION.replace('FLOOR', floor)));
    await site.receiver.start();
  }
});

/** The group, once retention takes nothing more of it. */
async function shortened(site: Site): Promise<GroupReport> {
  for (let before = await site.receiverGroup(); ;) {
    await sleep(ROUND_MS);
    const now = await site.receiverGroup();
    if (now.oldestLsn === before.oldestLsn) return now;
    before = now;
  }
}
