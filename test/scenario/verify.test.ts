/**
 * `afterimage verify`: what somebody wrote behind the agent, where nothing marks it and no sample looks, is found and named
 * to the block while production writes, and mended on request; the instants that showed it are not called `ordered`.
 */
import { spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import t from 'tap';
import { ended } from './command.js';
import { afterimage, type Site } from './site.js';
import { socketSite, writePattern } from './socket_site.js';

t.setTimeout(600_000);

const MIB = 1 << 20;
const BYTES = 256 * MIB;
const BLOCK = 4096;
const GROUP = 'verified';
const DIFFERS = 13;
const REPAIRED = 10;

interface Extent {
  offset: number;
  length: number;
}
interface Verified {
  group: string;
  verified: { volume: string; lsn: string; repaired: boolean; differing: Extent[] }[];
}
interface Span {
  grade: string;
  firstLsn: string;
  lastLsn: string;
  reason: string;
}

async function verify(
  site: Site,
  ...flags: string[]
): Promise<{ status: number; volumes: Verified['verified'] }> {
  const args = ['verify', GROUP, '--rate-max', '400MiB', '--control', site.agentControl, '--json', ...flags];
  const { status, stdout } = await afterimage(args, [DIFFERS, REPAIRED]);
  return { status, volumes: (JSON.parse(stdout) as Verified).verified };
}
async function failing(site: Site, ...flags: string[]): Promise<string> {
  const args = ['verify', GROUP, '--control', site.agentControl, '--json', ...flags];
  const { stderr } = await afterimage(args, [1, 4, 5, 6, 7, 130]);
  return stderr;
}
const timeline = async (site: Site): Promise<Span[]> =>
  (await site.ask<{ spans: Span[] }>('timeline', GROUP)).spans;

/** Verified random writes into the first 64 MiB, all the time. */
const fio = (uri: string, seconds: number): string[] => [
  '--name=load',
  '--ioengine=nbd',
  `--uri=${uri}`,
  '--rw=randwrite',
  '--bsrange=4k-64k',
  '--blockalign=4k',
  '--iodepth=8',
  `--size=${64 * MIB}`,
  '--time_based',
  `--runtime=${seconds}`,
  '--verify=crc32c',
  '--verify_backlog=256',
  '--verify_fatal=1',
  '--rate_iops=400',
];

t.test('what was written behind the agent is found, named, graded and mended under load', async (t) => {
  const { site, backing, uri } = await socketSite(t, 'verify', BYTES, { group: GROUP });
  for (const megabyte of [64, 100, 200]) await writePattern(uri, '0x5a', megabyte);
  const before = await site.settled();
  await site.waitFor('without doubt', 180, (group) => group.volumes[0]?.doubtBytes === 0);
  await site.agent.kill();
  const behind: Extent[] = [
    { offset: 101 * MIB, length: BLOCK },
    { offset: 139 * MIB + 3 * BLOCK, length: 5 * BLOCK },
    { offset: 202 * MIB + 64 * 1024 - BLOCK, length: 2 * BLOCK },
  ];
  const file = await open(backing, 'r+');
  for (const { offset, length } of behind) await file.write(Buffer.alloc(length, 0x77), 0, length, offset);
  await file.close();
  await site.agent.start();
  const believing = await site.settled();
  t.equal(believing.volumes[0]?.resyncComparedBytes, 0, 'nothing tells the agent of it');

  const load = spawn('fio', fio(uri, 25), { stdio: 'ignore' });
  site.scratch.defer('load', () => void load.kill('SIGKILL'));
  await site.waitFor('under load', 30, (group) => (group.volumes[0]?.writes ?? 0) > 500);

  const found = await verify(site);
  t.equal(found.status, DIFFERS);
  t.same(found.volumes[0]?.differing, behind, 'just what was written, and nothing that production writes');
  t.equal((await timeline(site)).at(-1)?.grade, 'damaged', 'what is wrong is not called ordered');

  const [again] = (await verify(site, '--repair')).volumes;
  t.same(again?.differing, behind);
  t.equal(again?.repaired, true);
  const clean = await verify(site, '--volume', 'disk');
  t.equal(clean.status, 0);
  t.same(clean.volumes[0]?.differing, []);

  const spans = await timeline(site);
  t.comment(JSON.stringify(spans));
  const last = spans.at(-1);
  t.equal(last?.grade, 'ordered', 'what follows the repair is ordered');
  t.ok(BigInt(last?.firstLsn ?? 0) <= BigInt(again?.lsn ?? 0));
  const wrong = spans.filter(({ grade }) => grade === 'damaged');
  t.ok(wrong.length > 0);
  t.match(wrong[0]?.reason, /32768 bytes in \d extents of disk differed/);
  t.ok(
    wrong.some(({ firstLsn }) => BigInt(firstLsn) <= BigInt(before.durableLsn)),
    'since nobody knows when',
  );
  t.equal(await ended(load, 60), 0, 'production read back all that it wrote');
  await site.settled();
  t.ok(
    (await site.recovered('disk', 'latest')).equals(await readFile(backing)),
    'source and replica are equal',
  );
});

t.test('what cannot be verified says why, and one verification of a group at a time', async (t) => {
  const { site, uri } = await socketSite(t, 'verify-refused', BYTES, { group: GROUP });
  await writePattern(uri, '0x11', 8);
  await site.settled();
  t.match(await failing(site, '--volume', 'other'), /VOLUME_UNKNOWN/);
  t.equal((await verify(site)).status, 0);

  const slow = failing(site, '--rate-max', '8MiB');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  t.match(await failing(site), /VERIFY_BUSY/);
  await site.receiver.kill();
  t.match(await slow, /SESSION_LOST|VERIFY_UNAVAILABLE/, 'the receiver went');
  t.match(await failing(site), /VERIFY_UNAVAILABLE/);
  await site.receiver.start();
  await site.settled();
  t.equal((await verify(site)).status, 0, 'the next one is as any other');

  const killed = failing(site, '--rate-max', '8MiB');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await site.agent.kill();
  t.match(await killed, /"code":"[A-Z_]+"/);
  await site.agent.start();
  await site.settled();
});
