/**
 * The agent of a loop volume dies again and again, is replaced, or hangs (R7), under fio that reads back what it has
 * written and under PostgreSQL: no I/O error, nothing lost, one generation from the first write to the last, no resync.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { command, ended } from './command.js';
import { acknowledgedBy, Cluster, rowOf } from './postgres.js';
import { QemuDisk } from './qemu_disk.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
import { Site, type GroupReport } from './site.js';

t.setTimeout(600_000);

const GROUP = 'survival';
const BYTES = 64 << 20;
/** How often an agent is ended; how long JavaScript hangs, which is beyond what a small ring holds. */
const STRIKES = Number(process.env['AFTERIMAGE_STRIKES'] ?? 6);
const HANG_SECONDS_MIN = 8;
const HANG_SECONDS = Number(
  process.env['AFTERIMAGE_SECONDS'] ?? (process.env['AFTERIMAGE_SCENARIO'] === 'all' ? 60 : HANG_SECONDS_MIN),
);
const PAUSE_MS_MAX = 1500;

interface FioReport {
  jobs: { error: number; write: { total_ios: number; clat_ns: { max: number } } }[];
}

/** A supervised site with one volume, protected. */
async function protectedSite(
  t: Test,
  name: string,
  makeBacking: (file: string) => Promise<unknown>,
  attach: 'loop' | 'socket' = 'loop',
  ringBytes?: string,
) {
  const scratch = await Scratch.create(name);
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await makeBacking(backing);
  const volumes = [{ name: 'disk', backing, attach }];
  const ring = ringBytes === undefined ? {} : { ringBytes };
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true, ...ring });
  await site.start();
  const before = await site.settled();
  const device = before.volumes[0]?.device ?? '';
  t.match(device, attach === 'loop' ? /^\/dev\/loop\d+$/ : /^unix:/);
  return { scratch, site, before, device, backing };
}

const sparse = (file: string): Promise<unknown> => command('truncate', ['-s', String(BYTES), file]);

/** fio's random writes, each read back; no more than a busy machine ships, since a full ring would be a gap. */
function fioUnderWay(scratch: Scratch, device: string, seconds: number) {
  const report = scratch.path('fio.json');
  const load = ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--ioengine=libaio', '--direct=1'];
  const verify = ['--verify=crc32c', '--verify_backlog=512', '--verify_fatal=1', `--randseed=${SEED}`];
  const run = [`--size=${BYTES}`, '--time_based', `--runtime=${seconds}`, '--rate_iops=3000'];
  const output = ['--output-format=json', `--output=${report}`];
  const words = ['--name=survival', `--filename=${device}`, ...load, ...verify, ...run, ...output];
  const fio = spawn('fio', words, { stdio: 'ignore' });
  scratch.defer('fio', () => void fio.kill('SIGKILL'));
  return async (t: Test): Promise<{ writes: number; pauseMs: number }> => {
    t.equal(await ended(fio, seconds + 60), 0, 'fio read back what it had written');
    const { jobs } = JSON.parse(await readFile(report, 'utf8')) as FioReport;
    t.equal(jobs[0]?.error, 0, 'without an I/O error');
    return { writes: jobs[0]?.write.total_ios ?? 0, pauseMs: (jobs[0]?.write.clat_ns.max ?? 0) / 1e6 };
  };
}

/** Ends the agent that runs, if one does. */
function strike(site: Site, struck: Set<number>, signal: NodeJS.Signals): void {
  const pid = site.agent.supervisedPid();
  if (pid === null) return;
  struck.add(pid);
  process.kill(pid, signal);
}

async function assertWhole(t: Test, site: Site, before: GroupReport): Promise<void> {
  const group = await site.settled();
  if (group.generation !== before.generation) t.comment(await site.agent.tail());
  t.equal(group.generation, before.generation, 'the same stream goes on: no gap, no resync');
  const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
  const grades = spans.map(({ grade }) => grade).filter((grade) => grade !== 'syncing');
  t.same(grades, ['ordered'], 'one ordered stretch');
}

async function assertSame(t: Test, site: Site, backing: string): Promise<void> {
  const latest = await site.recovered('disk', 'latest');
  t.ok(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
}

t.test(`an agent that dies or is replaced again and again is not noticed (seed ${SEED})`, async (t) => {
  const { scratch, site, before, device, backing } = await protectedSite(t, 'survival', sparse);
  const random = pseudorandom(SEED);
  const end = fioUnderWay(scratch, device, Math.ceil((STRIKES * PAUSE_MS_MAX) / 1000) + 2);
  const struck = new Set<number>();
  for (let strikes = 0; strikes < STRIKES; strikes += 1) {
    await sleep(300 + random() * (PAUSE_MS_MAX - 300));
    const pid = site.agent.supervisedPid();
    const isHandOver = strikes % 3 === 2;
    strike(site, struck, isHandOver ? 'SIGUSR2' : 'SIGKILL');
    // It asks the program that would follow first: the next strike would come before that has answered.
    while (isHandOver && pid !== null && site.agent.supervisedPid() === pid) await sleep(10);
  }
  const { writes, pauseMs } = await end(t);
  t.comment(`${struck.size} agents ended; ${writes} writes; longest pause ${pauseMs.toFixed(0)} ms`);
  t.ok(struck.size >= STRIKES / 2, 'most strikes found an agent');
  await assertWhole(t, site, before);
  await assertSame(t, site, backing);
});

t.test(`PostgreSQL goes on over agents that are killed (seed ${SEED})`, async (t) => {
  const { scratch, site, before, device } = await protectedSite(t, 'survival-pg', async (file) => {
    await command('truncate', ['-s', String(512 << 20), file]);
    await command('mkfs.ext4', ['-q', '-F', file]);
  });
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [device, mount]);
  scratch.defer('mount', () => command('umount', [mount]));
  const cluster = await Cluster.at(`${mount}/pg`, scratch.path('production'));
  await cluster.initialize();
  await cluster.start();
  scratch.defer('PostgreSQL', () => cluster.stop());
  await cluster.prepare(1);
  const random = pseudorandom(SEED);
  const load = await cluster.load(scratch.path('load'), 4, STRIKES * 1.5, 1);
  scratch.defer('pgbench', () => load.finish(true));
  const struck = new Set<number>();
  for (let strikes = 0; strikes < STRIKES; strikes += 1) {
    await sleep(300 + random() * 900);
    strike(site, struck, 'SIGKILL');
  }
  const logged = await load.finish();
  t.same(
    [load.failure(), ...(await cluster.complaints())],
    [null],
    'neither server nor clients met an error',
  );
  const rows = await cluster.ledger();
  const commits = acknowledgedBy(logged, rows);
  const slowestUs = logged.reduce((most, { latencyNs }) => (latencyNs > most ? latencyNs : most), 0n) / 1000n;
  t.comment(`${struck.size} agents killed; ${commits.length} commits, the slowest after ${slowestUs} µs`);
  t.ok(struck.size >= STRIKES / 2, 'most strikes found an agent');
  t.ok(commits.length > 100, 'it worked');
  t.same(
    commits.filter(({ client, sequence }) => !rows.has(rowOf(client, sequence))),
    [],
    'every commit that was acknowledged is there',
  );
  await cluster.program('pg_amcheck', ['--install-missing', '--heapallindexed', '--all', '--jobs=2']);
  await assertWhole(t, site, before);
});

t.test(`a QEMU disk that connects again goes on over killed agents (seed ${SEED})`, async (t) => {
  const { scratch, site, before, device, backing } = await protectedSite(t, 'survival-nbd', sparse, 'socket');
  const random = pseudorandom(SEED);
  const disk = new QemuDisk(scratch, device.slice('unix:'.length), BYTES, random);
  let isOver = false;
  const load = (async () => {
    while (!isOver) await disk.rewriteSome();
  })();
  const struck = new Set<number>();
  const strikes = (async () => {
    for (let count = 0; count < STRIKES; count += 1) {
      await sleep(300 + random() * 900);
      strike(site, struck, 'SIGKILL');
    }
  })();
  await Promise.race([load, strikes]);
  isOver = true;
  await load;
  t.equal(await disk.close(), '', 'no I/O error, and what was acknowledged is what is read');
  t.comment(`${struck.size} agents killed; ${disk.writes} writes`);
  t.ok(struck.size >= STRIKES / 2, 'most strikes found an agent');
  t.ok((await readFile(backing)).equals(disk.content()), 'and what the backing holds');
  await assertWhole(t, site, before);
  await assertSame(t, site, backing);
});

t.test('JavaScript that hangs costs history at worst, never production', async (t) => {
  const { scratch, site, before, device, backing } = await protectedSite(t, 'hang', sparse, 'loop', '8MiB');
  const end = fioUnderWay(scratch, device, HANG_SECONDS + 4);
  const pid = site.agent.supervisedPid() ?? 0;
  await hang(scratch, pid, HANG_SECONDS);
  await sleep((HANG_SECONDS * 1000) / 2);
  const states = new Set<string>();
  for (let looks = 0; looks < 20; looks += 1, await sleep(50)) states.add(stateOf(pid));
  const { writes, pauseMs } = await end(t);
  t.comment(`hung for ${HANG_SECONDS} s; ${writes} writes; longest pause ${pauseMs.toFixed(0)} ms`);
  t.same([...states], ['R'], 'it hung');
  t.ok(pauseMs < (HANG_SECONDS_MIN * 1000) / 2, 'nobody waited for JavaScript');
  const after = await site.settled();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'the ring was full, and writes were tracked');
  await assertSame(t, site, backing);
});

/** Of the thread that runs a process's JavaScript: R, it does not wait for anything; S, it does. */
function stateOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8').split(') ')[1]?.[0] ?? '';
}

/** Keeps the JavaScript of a process busy, through Node's own debugger. Resolves when it has begun. */
async function hang(scratch: Scratch, pid: number, seconds: number): Promise<void> {
  const inspector = spawn(process.execPath, ['inspect', '-p', String(pid)], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  scratch.defer('debugger', () => void inspector.kill('SIGKILL'));
  let told = '';
  inspector.stdout.on('data', (text: Buffer) => (told += text.toString()));
  const heard = async (what: RegExp): Promise<void> => {
    for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(20))
      if (what.test(told)) return;
    throw new Error(`the debugger does not say ${what.source}: ${told}`);
  };
  await heard(/debug> /);
  const busy = `const until = Date.now() + ${seconds * 1000}; while (Date.now() < until);`;
  inspector.stdin.write(`exec setImmediate(() => { ${busy} }) && 'hanging'\n`);
  await heard(/'hanging'\n/);
  inspector.stdin.write('.exit\n');
  await ended(inspector, 20);
}
