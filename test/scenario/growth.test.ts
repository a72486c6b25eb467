/**
 * Volumes that grow while they are protected, and while they are not: production sees the new size, points before and after
 * it have each its own, and what was there already where a volume has grown to is protected as well. One that shrinks is not.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { replayVolume } from '../replay/replay.js';
import { command, ended } from './command.js';
import { refused } from './refusal.js';
import { Scratch } from './scratch.js';
import { afterimage, memberDirectory, nbdUri, Site, type GroupReport } from './site.js';
import { until } from './until.js';
import { socketSite, writePattern } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'growing';
const MIB = 1 << 20;

interface Point {
  lsn: string;
}

const sizeOf = async (device: string): Promise<number> =>
  Number((await command('blockdev', ['--getsize64', device])).stdout);

/** It is protected, and what the status says of its size is so. */
async function settledWith(t: Test, site: Site, bytes: number): Promise<GroupReport> {
  const has = (group: GroupReport): boolean => group.volumes[0]?.size === bytes;
  await site.waitFor(`of ${bytes} bytes`, 60, has);
  const group = await site.settled();
  t.ok(has(await site.receiverGroup()), 'the receiver knows its size');
  return group;
}

/** What is recovered at an LSN has these bytes, and is what the replay of the journal says. */
async function recoveredAt(t: Test, site: Site, lsn: bigint, bytes: number): Promise<Buffer> {
  const content = await site.recovered('disk', `lsn:${lsn}`);
  t.equal(content.length, bytes, `lsn:${lsn} has ${bytes} bytes`);
  const directory = await memberDirectory(site.store);
  t.ok(content.equals(await replayVolume({ directory, volume: 0, bytes, lsn })), 'as the replay says');
  return content;
}

async function assertStoreSound(t: Test, site: Site): Promise<void> {
  t.equal(await site.agent.stop(), 0, 'the agent stops in order');
  t.equal(await site.receiver.stop(), 0, 'and the receiver');
  await afterimage(['receiver', 'fsck', site.store]); // or it would end with another status
}

/** The mounted file system takes all of its device; online where this process may (CAP_SYS_RESOURCE). */
async function enlarge(t: Test, device: string, mount: string): Promise<void> {
  const { status } = await command('resize2fs', [device], { accept: [1] });
  if (status === 0) return;
  t.comment('this process may not resize a mounted file system');
  await command('umount', [mount]);
  await command('e2fsck', ['-f', '-y', device], { accept: [1] });
  await command('resize2fs', [device]);
  await command('mount', [device, mount]);
}

t.test(
  'a mounted file system grows with its volume, under load and over an agent that is killed',
  async (t) => {
    const [before, after] = [64 * MIB, 160 * MIB];
    const scratch = await Scratch.create('growth');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(before), backing]);
    const volumes = [{ name: 'disk', backing, attach: 'loop' as const }];
    const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true });
    await site.start();
    const device = (await site.agentGroup()).volumes[0]?.device ?? '';
    await command('mkfs.ext4', ['-q', '-F', device]);
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [device, mount]);
    scratch.defer('mount', () => command('umount', ['-q', mount], { accept: [1, 32] }));
    await writeFile(`${mount}/before`, 'written before');
    await command('sync', ['-f', mount]);
    const small = await site.settled();

    const load = `cd "$1" && i=0; while [ ! -e stop ]; do
    i=$((i + 1)); head -c $((i * 97 % 60000)) /dev/urandom > f$((i % 50)); [ $((i % 9)) -ne 0 ] || sync -f .; done`;
    const writer = spawn('sh', ['-ec', load, 'sh', mount], { stdio: 'ignore' });
    scratch.defer('writer', () => void writer.kill('SIGKILL'));
    await sleep(500);
    await truncate(backing, after);
    await until('as large as its backing', async () => (await sizeOf(device)) === after);
    const killed = site.agent.supervisedPid() ?? 0;
    process.kill(killed, 'SIGKILL');
    await sleep(500);
    await writeFile(`${mount}/stop`, '');
    t.equal(await ended(writer, 60), 0, 'no write has failed');
    t.not(site.agent.supervisedPid(), killed);
    t.equal(await sizeOf(device), after, 'a successor serves it as large');
    await enlarge(t, device, mount);
    await command('sh', ['-ec', 'head -c 80M /dev/urandom > "$1/large" && sync -f "$1"', 'sh', mount]);
    await command('umount', [mount]);

    const group = await settledWith(t, site, after);
    t.ok(BigInt(group.generation) > BigInt(small.generation), 'another generation');
    const { spans } = await site.ask<{ spans: { reason: string }[] }>('timeline', GROUP);
    t.ok(
      spans.some(({ reason }) => reason === 'VOLUME_GROWN'),
      JSON.stringify(spans),
    );
    const latest = await recoveredAt(t, site, BigInt(group.durableLsn), after);
    t.ok(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
    const file = scratch.path('recovered-disk.img');
    t.equal((await command('e2fsck', ['-f', '-n', file])).status, 0, 'and clean');
    await recoveredAt(t, site, BigInt(small.durableLsn), before);
    const replay = scratch.path('replay');
    await mkdir(replay);
    await command('mount', ['-o', 'loop', file, replay]);
    t.equal(await readFile(`${replay}/before`, 'utf8'), 'written before');
    await command('umount', [replay]);
    t.equal((await command('e2fsck', ['-f', '-n', file])).status, 0, 'the one before it too');
    await assertStoreSound(t, site);
  },
);

t.test('what a device held where a volume has grown to is protected too', async (t) => {
  const [before, after] = [16 * MIB, 48 * MIB + 512];
  const scratch = await Scratch.create('growth-device');
  t.teardown(() => scratch.clean());
  const disk = scratch.path('disk.img');
  await writeFile(disk, randomBytes(before));
  const backing = (await command('losetup', ['--find', '--show', disk])).stdout.trim();
  scratch.defer('device', () => command('losetup', ['-d', backing]));
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes });
  await site.start();
  await writePattern(nbdUri(await site.settled()), '0x11');
  const small = await site.settled();
  await appendFile(disk, randomBytes(after - before));
  await command('losetup', ['-c', backing]);
  const group = await settledWith(t, site, after);
  const { resyncDifferingBytes } = group.volumes[0] ?? {};
  t.equal(resyncDifferingBytes, after - before, 'all that is new was sent, and nothing else');
  await writePattern(nbdUri(group), '0x44', 40);
  const last = await site.settled();
  const latest = await recoveredAt(t, site, BigInt(last.durableLsn), after);
  t.ok(latest.equals(await readFile(disk)), 'the latest point is what the device holds');
  const old = await recoveredAt(t, site, BigInt(small.durableLsn), before);
  t.ok(old.equals((await readFile(disk)).subarray(0, before)));
  await assertStoreSound(t, site);
});

t.test('a volume that has grown while its agent was down', async (t) => {
  const sizes = [32, 48, 64].map((megabytes) => megabytes * MIB);
  const [first = 0, ...later] = sizes;
  const { site, backing, uri } = await socketSite(t, 'growth-down', first, { group: GROUP });
  await writePattern(uri, '0x11');
  const ends = [BigInt((await site.settled()).durableLsn)];
  for (const [index, bytes] of later.entries()) {
    if (index === 0) t.equal(await site.agent.stop(), 0, 'stopped in order');
    else await site.agent.kill();
    await truncate(backing, bytes);
    await site.agent.start();
    const group = await settledWith(t, site, bytes);
    await writePattern(nbdUri(group), '0x22', bytes / MIB - 4);
    ends.push(BigInt((await site.settled()).durableLsn));
  }
  const content = await readFile(backing);
  for (const [index, lsn] of ends.entries()) {
    const recovered = await recoveredAt(t, site, lsn, sizes[index] ?? 0);
    t.ok(recovered.equals(content.subarray(0, sizes[index])), 'as it was then');
  }
  const held = (await site.ask<Point>('timeline', GROUP, '--at', 'latest')).lsn;
  t.equal(BigInt(held), ends.at(-1), 'the newest is the latest');
  await assertStoreSound(t, site);
});

t.test('a base is moved over the growth of its volume, and beyond', async (t) => {
  const [before, after] = [16 * MIB, 48 * MIB];
  const { site, backing, uri } = await socketSite(t, 'growth-held', before, {
    group: GROUP,
    segmentBytes: '4MiB',
    receiver: `[[group]]\nname = "${GROUP}"\nretention = { window = "2s", floor = "1s" }`,
  });
  const fill = (bytes: number): Promise<unknown> => {
    const what = [
      '--name=fill',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bs=64k',
      '--iodepth=4',
    ];
    return command('fio', [
      ...what,
      `--size=${bytes}`,
      '--io_size=12M',
      '--refill_buffers',
      '--randrepeat=0',
    ]);
  };
  await fill(before);
  await site.settled();
  await truncate(backing, after);
  const grown = BigInt((await settledWith(t, site, after)).durableLsn);
  const base = path.join(await memberDirectory(site.store), 'base');
  const [image = ''] = (await readdir(base)).filter((file) => file.endsWith('.img'));
  await until('moved', async () => {
    await fill(after);
    return BigInt((await site.receiverGroup()).oldestLsn) > grown;
  });
  await until('as long', async () => (await stat(path.join(base, image))).size === after);
  await site.settled();
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(backing)));
  await assertStoreSound(t, site);
});

t.test(
  'a volume that shrinks is served as far as it goes, and protected when it has its size again',
  async (t) => {
    const bytes = 32 * MIB;
    const { site, backing, uri } = await socketSite(t, 'shrunk', bytes, { group: GROUP });
    await writePattern(uri, '0x11');
    await writePattern(uri, '0x33', 28);
    const whole = BigInt((await site.settled()).durableLsn);
    await truncate(backing, 24 * MIB);
    const group = await site.waitFor('told of', 60, ({ detail }) => detail.includes('BACKING_RESIZED'));
    t.not(group.state, 'protected');
    t.equal(group.volumes[0]?.size, bytes, 'a volume does not shrink');
    await writePattern(uri, '0x22', 8);
    await recoveredAt(t, site, whole, bytes);

    const run = ['agent', 'run', '--config', site.scratch.path('agent.toml')];
    await site.agent.kill();
    await refused(t, 'BACKING_RESIZED', backing, run);
    await truncate(backing, bytes);
    await site.agent.start();
    const end = BigInt((await site.settled()).durableLsn);
    const latest = await recoveredAt(t, site, end, bytes);
    t.ok(latest.equals(await readFile(backing)), 'what was cut off is zero, as in the backing');
    await assertStoreSound(t, site);
  },
);

// Symptom: the store had the new size, and the session had begun a generation with the old one while that was awaited. The
// agent was killed then; its successor served the new size in that generation, whose first record beyond the old size the
// receiver refused.
t.test('an agent that is killed between the new size and its generation', async (t) => {
  const [before, after] = [16 * MIB, 32 * MIB];
  const scratch = await Scratch.create('growth-killed');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(before), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'loop' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true });
  await site.start();
  const small = await site.settled();
  const device = small.volumes[0]?.device ?? '';
  const agent = site.agent.supervisedPid() ?? 0;
  // It answers no barrier, so that the agent waits for it.
  site.agent.signal('SIGSTOP');
  await truncate(backing, after);
  const midway = await site.waitFor('in a generation', 30, ({ generation, state }) => {
    return BigInt(generation) > BigInt(small.generation) && state === 'protected';
  });
  t.equal(midway.volumes[0]?.size, before, 'of the old size');
  process.kill(agent, 'SIGKILL');
  site.agent.signal('SIGCONT');
  await until('as large as its backing', async () => (await sizeOf(device)) === after);
  await command(
    'dd',
    ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'oflag=direct', 'conv=notrunc'].concat([
      'seek=20',
      'count=4',
    ]),
  );
  const group = await settledWith(t, site, after);
  const latest = await recoveredAt(t, site, BigInt(group.durableLsn), after);
  t.ok(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
  t.notMatch(await readFile(scratch.path('agent.log'), 'utf8'), /RECORD_INVALID/);
  await assertStoreSound(t, site);
});
