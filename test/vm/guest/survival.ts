/**
 * Runs inside of a virtual machine (stock_kernels.test.ts): the agent of a mounted volume dies again and again while fio writes
 * to the file system and reads back what it wrote. No I/O error, one generation, and in the end the receiver has what the
 * backing has. While nobody serves, the clock is also set back by a day, and ahead by a year: each time shows what was there
 * then. A device of the nbd driver is in the end left by an agent that nothing is kept of, which costs a generation. Where
 * systemd is the service manager, it also restarts the agent, and itself.
 *
 * `node survival.js loop|nbd supervisor|systemd`; its last line is JSON.
 */
import assert from 'node:assert/strict';
import { mkdir, open, readFile, realpath } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from '../../scenario/command.js';
import { Scratch } from '../../scenario/scratch.js';
import { Site, type SiteOptions } from '../../scenario/site.js';
import { ioErrors, Load, PATIENCE_SECONDS, served } from './load.js';
import { Moments } from './moments.js';
import { keptCount, systemctl, UnitDaemon, unitOf } from './unit_daemon.js';

const GROUP = 'vm';
const BYTES = 32 << 20;
/** After a kill, the last requests that were answered have been counted. */
const SETTLE_MS = 500;
/** How many writes are to be served by a successor before it dies too. */
const WRITES_BETWEEN = 50;
const POLL_MS = 20;

type Manager = 'supervisor' | 'systemd';
/** How an agent that has a successor ends. */
interface Strike {
  what: string;
  end: (pid: number) => unknown;
  /** What happens to the clock while nobody serves. */
  clockStep?: string;
}

const kill = (pid: number): unknown => process.kill(pid, 'SIGKILL');
const KILLS: Strike[] = [
  { what: 'killed', end: kill },
  { what: 'killed, and the clock set back', end: kill, clockStep: '-1 day' },
  { what: 'killed', end: kill },
  { what: 'killed, and the clock set far ahead', end: kill, clockStep: '+365 days' },
  { what: 'killed', end: kill },
  { what: 'killed', end: kill },
];
const BELOW_SYSTEMD: Strike[] = [
  ...KILLS.slice(1),
  { what: 'killed after systemd began anew', end: (pid) => systemctl('daemon-reexec').then(() => kill(pid)) },
  { what: 'restarted', end: () => systemctl('restart', unitOf('agent')) },
  { what: 'asked to hand over', end: (pid) => process.kill(pid, 'SIGUSR2') },
];

const scratch = await Scratch.create('vm');

async function survive(attach: 'loop' | 'nbd', manager: Manager): Promise<Record<string, unknown>> {
  const begunSeconds = os.uptime();
  for (const name of ['loop', 'fuse', 'nbd']) await command('modprobe', [name], { accept: [1] });
  const image = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), image]);
  // A disk of 4 KiB sectors, which the attached device must have too.
  const backing = attach === 'nbd' ? await diskOver(image, 4096) : image;
  const moments = await Moments.format(backing, scratch.path('content'));
  const volumes = [{ name: 'disk', backing, attach }];
  const under: Partial<SiteOptions> =
    manager === 'systemd' ? { daemon: (options) => new UnitDaemon(options) } : { supervised: true };
  const site = await Site.create(scratch, {
    plain: true,
    group: GROUP,
    volumes,
    ringBytes: '64MiB',
    ...under,
  });
  await site.start(PATIENCE_SECONDS);
  const before = await site.settled(PATIENCE_SECONDS);
  const device = before.volumes[0]?.device ?? '';
  console.log(`${device} is protected, Linux ${os.release()}`);
  if (attach === 'nbd') {
    assert.equal(await realpath(`/dev/afterimage/${GROUP}/disk`), device, 'a stable link');
    const attribute = `/sys/block/${path.basename(device)}/queue/logical_block_size`;
    assert.equal((await readFile(attribute, 'utf8')).trim(), '4096');
  }
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [device, mount]);
  scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));

  const keptBefore = manager === 'systemd' ? await keptCount() : 0;
  const load = new Load(mount, scratch.path('fio.json'));
  const working = load.run();
  const pauses: number[] = [];
  for (const one of manager === 'systemd' ? BELOW_SYSTEMD : KILLS) {
    await served(device, WRITES_BETWEEN, load);
    if (one.clockStep !== undefined) {
      await moments.mark(mount);
      await served(device, 1, load); // a time after the last record of an era is not known
    }
    pauses.push(await strike(one, site, device, load));
  }
  await moments.mark(mount);
  await served(device, WRITES_BETWEEN, load);
  const { generation } = await site.waitFor(
    'protected',
    PATIENCE_SECONDS,
    ({ state }) => state === 'protected',
  );
  assert.equal(generation, before.generation, 'the same stream went on: no gap, no resync');
  if (attach === 'nbd') await startByHand(site, device, load);
  load.stop();
  await working;
  load.throwIfFailed();
  await command('umount', [mount]);
  assert.deepEqual(ioErrors(begunSeconds), [], 'the kernel saw no I/O error');

  const after = await site.settled(PATIENCE_SECONDS);
  // One more at most: how often in a row it has died.
  if (manager === 'systemd') assert((await keptCount()) <= keptBefore + 1, 'what is kept has not grown');
  const generations = Number(BigInt(after.generation) - BigInt(before.generation));
  if (attach === 'nbd') {
    assert.equal(generations, 1, 'of one that was started by hand nobody knows what was being written');
  } else {
    assert.equal(generations, 0, 'and still goes on');
    const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
    const grades = spans.map(({ grade }) => grade).filter((grade) => grade !== 'syncing');
    assert.deepEqual(grades, ['ordered'], 'one ordered stretch');
  }
  const latest = await site.recovered('disk', 'latest');
  assert(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
  await command('e2fsck', ['-f', '-n', scratch.path('recovered-disk.img')]);
  await moments.verify((time) => site.recovered('disk', time));
  await grow(site, device, image, backing);
  assert.equal(await site.agent.stop(PATIENCE_SECONDS), 0);
  assert.equal((await readFile(`/sys/block/${path.basename(device)}/size`, 'utf8')).trim(), '0', 'detached');
  return {
    attach,
    kernel: os.release(),
    manager,
    rounds: load.rounds,
    writes: load.writes,
    generations,
    pausesMs: pauses,
    writeMsMax: load.writeMsMax,
  };
}

/** The device grows with its backing, and what is written there is protected. */
async function grow(site: Site, device: string, image: string, backing: string): Promise<void> {
  await command('truncate', ['-s', String(2 * BYTES), image]);
  if (backing !== image) await command('losetup', ['-c', backing]);
  const attribute = `/sys/block/${path.basename(device)}/size`;
  const begin = performance.now();
  while (Number(await readFile(attribute, 'utf8')) * 512 !== 2 * BYTES) {
    assert(performance.now() - begin < PATIENCE_SECONDS * 1000, 'the device grows');
    await sleep(SETTLE_MS);
  }
  const handle = await open(device, 'r+');
  await handle.write(Buffer.alloc(1 << 20, 0x77), 0, 1 << 20, 2 * BYTES - (1 << 20));
  await handle.sync();
  await handle.close();
  await site.settled(PATIENCE_SECONDS);
  assert((await site.recovered('disk', 'latest')).equals(await readFile(backing)), 'grown at both ends');
  console.log(`${device} has grown`);
}

async function diskOver(file: string, blockSize: number): Promise<string> {
  const { stdout } = await command('losetup', ['--find', '--show', '--sector-size', String(blockSize), file]);
  const disk = stdout.trim();
  scratch.defer('disk', () => command('losetup', ['--detach', disk]));
  return disk;
}

/** Ends the agent that runs and waits until another one serves; returns for how many milliseconds nobody did. */
async function strike(
  { what, end, clockStep }: Strike,
  site: Site,
  device: string,
  load: Load,
): Promise<number> {
  const pid = site.agent.supervisedPid();
  assert(pid !== null);
  const ending = Promise.resolve(end(pid));
  const [pauseMs] = await Promise.all([succeeded(pid, clockStep ?? null, device, load), ending]);
  console.log(`${pid} was ${what}; served again after ${pauseMs} ms`);
  return pauseMs;
}

async function succeeded(pid: number, clockStep: string | null, device: string, load: Load): Promise<number> {
  while (signalIfThere(pid, 0)) await sleep(POLL_MS);
  const begin = performance.now();
  if (clockStep !== null) await command('date', ['--set', clockStep]);
  await sleep(SETTLE_MS);
  await served(device, 1, load);
  return Math.round(performance.now() - begin);
}

/** Nothing is left of an agent and of what was kept of it but the device, which the next one finds. */
async function startByHand(site: Site, device: string, load: Load): Promise<void> {
  const pid = site.agent.supervisedPid();
  await site.agent.kill();
  if (pid !== null) signalIfThere(pid, 'SIGKILL');
  const starting = site.agent.start(PATIENCE_SECONDS);
  await Promise.all([starting, served(device, WRITES_BETWEEN, load)]);
  console.log('killed for good; served again by one that was started by hand');
}

/** Whether it was. */
function signalIfThere(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (thrown) {
    assert.equal((thrown as NodeJS.ErrnoException).code, 'ESRCH');
    return false;
  }
}

const [attach, manager] = process.argv.slice(2);
assert(attach === 'loop' || attach === 'nbd');
assert(manager === 'supervisor' || manager === 'systemd');
try {
  console.log(JSON.stringify(await survive(attach, manager)));
} finally {
  await scratch.clean();
}
