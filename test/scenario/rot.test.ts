/**
 * What rots at the receiver and whose content the protected host still has comes back from there: a block of a base and
 * frames in the middle of the journal. The instants that need them stay `damaged`; what follows the repair, or the last of
 * the writes that went over them, is `ordered`.
 */
import { open, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { command } from './command.js';
import { afterimage, type Site } from './site.js';
import { socketSite, writePattern } from './socket_site.js';

t.setTimeout(600_000);

const MIB = 1 << 20;
const BYTES = 64 * MIB;
const GROUP = 'rot';
const DAMAGED = 9;

async function files(site: Site, suffix: string): Promise<string[]> {
  const names = await readdir(site.store, { recursive: true });
  return names
    .filter((name) => name.endsWith(suffix))
    .sort()
    .map((name) => path.join(site.store, name));
}
async function flip(file: string, at: number): Promise<void> {
  const handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, at);
  byte.writeUInt8(byte.readUInt8(0) ^ 0xff);
  await handle.write(byte, 0, 1, at);
  await handle.close();
}
const scrub = async (site: Site): Promise<number> =>
  (await afterimage(['receiver', 'scrub', GROUP, '--control', site.receiverControl, '--json'], [DAMAGED]))
    .status;
const grades = async (
  site: Site,
): Promise<{ grade: string; generation: string; firstLsn: string; lastLsn: string }[]> =>
  (
    await site.ask<{ spans: { grade: string; generation: string; firstLsn: string; lastLsn: string }[] }>(
      'timeline',
      GROUP,
    )
  ).spans;

t.test('a segment in the middle of the journal rots: the newest state comes back', async (t) => {
  const { site, backing, uri } = await socketSite(t, 'rot-journal', BYTES, {
    group: GROUP,
    segmentBytes: '4MiB',
  });
  for (const seed of [1, 2, 3]) await writeHereAndThere(uri, seed);
  const before = await site.settled();
  const segments = await files(site, '.seg');
  t.ok(segments.length >= 4, `${segments.length} segments`);
  const victim = segments[1] ?? '';
  await flip(victim, Math.floor((await stat(victim)).size / 3));
  t.equal(await scrub(site), DAMAGED);
  const generation = Number(before.generation);
  const after = await site.waitFor(
    'compared anew',
    60,
    (group) => Number(group.generation) > generation && group.state === 'protected',
  );
  t.comment(
    `compared ${after.volumes[0]?.resyncComparedBytes}, sent ${after.volumes[0]?.resyncDifferingBytes}`,
  );
  t.ok((after.volumes[0]?.resyncDifferingBytes ?? 0) > 0, 'what was lost and is still there was sent');
  await writePattern(uri, '0x42', 8);
  await site.settled();
  const spans = await grades(site);
  t.comment(spans.map(({ grade, firstLsn, lastLsn }) => `${grade} ${firstLsn}-${lastLsn}`).join(', '));
  t.equal(spans.at(-1)?.grade, 'ordered');
  t.equal(spans[0]?.grade, 'ordered', 'what came before the hole is as it was');
  t.ok(
    spans.some(({ grade, lastLsn }) => grade === 'damaged' && BigInt(lastLsn) >= BigInt(before.durableLsn)),
    'what was built on the hole is damaged',
  );
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));
  t.match(
    (
      await afterimage(
        [
          'recover',
          `${GROUP}/disk`,
          '--at',
          `lsn:${before.durableLsn}`,
          '--to',
          site.scratch.path('no.img'),
          '--control',
          site.receiverControl,
        ],
        [4],
      )
    ).stderr,
    /POINT_GRADE/,
  );
  const { status } = await afterimage(['verify', GROUP, '--control', site.agentControl]);
  t.equal(status, 0, 'source and replica are equal, block by block');
  t.equal(
    (await afterimage(['receiver', 'scrub', GROUP, '--control', site.receiverControl, '--json'], [DAMAGED]))
      .status,
    0,
  );
});

t.test('a segment rots of which all was written over since: production and stream go on', async (t) => {
  const { site, backing, uri } = await socketSite(t, 'rot-old', 8 * MIB, {
    group: GROUP,
    segmentBytes: '4MiB',
  });
  for (const seed of [1, 2]) await writeAll(uri, 8 * MIB, seed);
  const before = await site.settled();
  const segments = await files(site, '.seg');
  const victim = segments[1] ?? '';
  await flip(victim, Math.floor((await stat(victim)).size / 3));
  t.equal(await scrub(site), DAMAGED);
  const spans = (await grades(site)).slice(-3);
  t.comment(spans.map(({ grade, firstLsn, lastLsn }) => `${grade} ${firstLsn}-${lastLsn}`).join(', '));
  t.match(
    spans.map(({ grade }) => grade),
    ['ordered', 'damaged', 'ordered'],
  );
  t.equal(spans.at(-1)?.lastLsn, before.durableLsn);
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));
  await writeAll(uri, 8 * MIB, 3);
  const after = await site.settled();
  t.equal(after.generation, before.generation, 'nothing is compared');
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));
});

/** All of it, with what does not compress. */
async function writeAll(uri: string, bytes: number, seed: number): Promise<void> {
  await command('fio', [
    '--name=load',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=write',
    '--bs=64k',
    '--iodepth=4',
    `--size=${bytes}`,
    `--randseed=${seed}`,
    '--refill_buffers',
  ]);
}

/** 6 MiB here and there that do not compress. */
async function writeHereAndThere(uri: string, seed: number): Promise<void> {
  await command('fio', [
    '--name=load',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=randwrite',
    '--bs=16k',
    '--iodepth=8',
    `--size=${BYTES}`,
    `--io_size=${6 * MIB}`,
    `--randseed=${seed}`,
    '--randrepeat=0',
    '--refill_buffers',
  ]);
}

t.test('a block of a base rots while records lie over others: the newest state comes back', async (t) => {
  const { site, backing, uri } = await socketSite(t, 'rot-base', BYTES, { group: GROUP });
  await writeHereAndThere(uri, 9);
  await writePattern(uri, '0x24', 40);
  await site.settled();
  const [base = ''] = await files(site, '.img');
  await flip(base, 20 * MIB + 5);
  const generation = Number((await site.agentGroup()).generation);
  t.equal(await scrub(site), DAMAGED);
  const is = (group: { generation: string; state: string }): boolean =>
    Number(group.generation) > generation && group.state === 'protected';
  await site.waitFor('compared anew', 60, is);
  await site.settled();
  const spans = await grades(site);
  t.comment(spans.map(({ grade, firstLsn, lastLsn }) => `${grade} ${firstLsn}-${lastLsn}`).join(', '));
  t.equal(spans.at(-1)?.grade, 'ordered');
  t.equal(spans[0]?.grade, 'damaged');
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));
  const { status } = await afterimage(['verify', GROUP, '--control', site.agentControl]);
  t.equal(status, 0);
});
