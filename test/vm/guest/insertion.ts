/**
 * Runs inside of a virtual machine (insertion.test.ts): protection is put under a mounted device-mapper device and taken out
 * again while fio writes to the file system and reads back what it wrote; the agent is killed, the verbs are killed, and in
 * the end the agent is killed for good. The file system goes on each time, and what is protected is what the receiver has.
 *
 * `node insertion.js loop|nbd`; its last line is JSON.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from '../../scenario/command.js';
import { CLI } from '../../scenario/daemon.js';
import { Scratch } from '../../scenario/scratch.js';
import { Site } from '../../scenario/site.js';
import { ioErrors, Load, PATIENCE_SECONDS, served } from './load.js';

const GROUP = 'vm';
const NAME = 'data';
const DEVICE = `/dev/mapper/${NAME}`;
const SECTORS = 65_536;
const WRITES_BETWEEN = 30;

const scratch = await Scratch.create('vm');

async function insertAndRemove(attach: 'loop' | 'nbd'): Promise<Record<string, unknown>> {
  const begunSeconds = os.uptime();
  for (const name of ['loop', 'fuse', 'nbd', 'dm-mod']) await command('modprobe', [name], { accept: [1] });
  await logicalVolume();
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [DEVICE, mount]);
  scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));
  const load = new Load(mount, scratch.path('fio.json'));
  const working = load.run();
  const goesOn = async (what: string): Promise<void> => {
    await served(DEVICE, WRITES_BETWEEN, load);
    console.log(`${what}: the load goes on`);
  };
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', mapped: DEVICE, attach }],
    ringBytes: '64MiB',
    supervised: true,
  });
  await site.receiver.start(PATIENCE_SECONDS);
  await refused(site, 'insert', 'DAEMON_UNREACHABLE');
  await site.agent.start(PATIENCE_SECONDS);
  const waiting = await site.agentGroup();
  assert.match(waiting.detail, /VOLUME_NOT_INSERTED/);
  await refused(site, 'remove', 'VOLUME_NOT_INSERTED');
  await goesOn('before');

  const pausesMs = [await timed(() => verb(site, 'insert'))];
  await goesOn('inserted');
  await refused(site, 'insert', 'VOLUME_INSERTED');
  await site.settled(PATIENCE_SECONDS);
  await equalAtReceiver(site, mount);

  const pid = site.agent.supervisedPid();
  assert(pid !== null);
  process.kill(pid, 'SIGKILL');
  await sleep(500);
  await goesOn('the agent was killed');
  await site.agent.answers(PATIENCE_SECONDS);
  await site.settled(PATIENCE_SECONDS);

  pausesMs.push(await timed(() => verb(site, 'remove')));
  await goesOn('removed');
  const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
  assert(spans.some(({ grade }) => grade === 'ordered'));
  await linearAgainIsRefused();

  // Whoever kills a verb runs it again, or the other one.
  await cutOff(site, 'insert');
  await verb(site, 'remove');
  await goesOn('an insertion was cut off, and taken back');
  await cutOff(site, 'insert');
  await verb(site, 'insert', ['VOLUME_INSERTED']);
  await goesOn('an insertion was cut off, and gone on with');
  // What was written past the agent is there too: all is compared.
  await site.settled(PATIENCE_SECONDS);
  await equalAtReceiver(site, mount);
  await cutOff(site, 'remove');
  await verb(site, 'insert', ['VOLUME_INSERTED']);
  await goesOn('a removal was cut off, and taken back');
  await site.settled(PATIENCE_SECONDS);
  await equalAtReceiver(site, mount);
  assert.deepEqual(ioErrors(begunSeconds), [], 'the kernel saw no I/O error');

  const last = site.agent.supervisedPid();
  await site.agent.kill();
  if (last !== null) killIfThere(last);
  await sleep(500);
  pausesMs.push(await timed(() => verb(site, 'remove')));
  await goesOn('the agent was killed for good, and removed');
  load.stop();
  await working;
  load.throwIfFailed();
  await command('umount', [mount]);
  // What it was sent has failed, and is no error of the device: it was done once more.
  const errors = ioErrors(begunSeconds).filter((line) => !/dev (nbd|loop)\d/.test(line));
  assert.deepEqual(errors, [], 'no I/O error above');
  await command('e2fsck', ['-f', '-n', DEVICE]);
  await mapper(['remove', NAME]);
  await mapper(['remove', `${NAME}-afterimage`]);
  return { attach, kernel: os.release(), rounds: load.rounds, writes: load.writes, pausesMs };
}

/** As LVM makes them: in two pieces, the second of which lies first. */
async function logicalVolume(): Promise<void> {
  const image = scratch.path('disk.img');
  await command('truncate', ['-s', String((SECTORS + 2048) * 512), image]);
  const { stdout } = await command('losetup', ['--find', '--show', image]);
  const disk = stdout.trim();
  scratch.defer('disk', () => command('losetup', ['--detach', disk]));
  const first = 40_000;
  const rest = SECTORS - first;
  const table = `0 ${first} linear ${disk} ${2048 + rest}\n${first} ${rest} linear ${disk} 2048\n`;
  await command('dmsetup', ['create', '--verifyudev', NAME], { input: table });
  scratch.defer('devices', async () => {
    for (const name of [NAME, `${NAME}-afterimage-new`, `${NAME}-afterimage`])
      await command('dmsetup', ['remove', '--verifyudev', name], { accept: [1] });
  });
  await command('mkfs.ext4', ['-q', '-F', DEVICE]);
}

const words = (site: Site, name: 'insert' | 'remove'): string[] => {
  const flags = name === 'remove' ? ['--yes'] : [];
  return [
    CLI,
    'volume',
    name,
    GROUP,
    ...flags,
    '--config',
    scratch.path('agent.toml'),
    '--control',
    site.agentControl,
  ];
};

/** Succeeds, or is refused with one of `codes`. */
async function verb(site: Site, name: 'insert' | 'remove', codes: string[] = []): Promise<void> {
  const accept = codes.length > 0 ? [4] : [];
  const ended = await command(process.execPath, words(site, name), { accept, secondsMax: PATIENCE_SECONDS });
  if (ended.status !== 0)
    assert(
      codes.some((code) => ended.stderr.includes(code)),
      ended.stderr,
    );
}

async function refused(site: Site, name: 'insert' | 'remove', code: string): Promise<void> {
  const ended = await command(process.execPath, words(site, name), { accept: [4, 6] });
  assert(ended.stderr.includes(code), ended.stderr);
}

/** Kills the verb as soon as I/O waits because of it. */
async function cutOff(site: Site, name: 'insert' | 'remove'): Promise<void> {
  const child = spawn(process.execPath, words(site, name), { stdio: 'inherit' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  while (child.exitCode === null) {
    const { stdout } = await command('dmsetup', ['table', NAME]);
    if (/ 0 0 0\s*$/.test(stdout)) break;
  }
  child.kill('SIGKILL');
  await ended;
  assert.equal(child.exitCode, null, 'it was cut off');
  console.log(`${name} was cut off while I/O waited`);
}

async function timed(work: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await work();
  return Math.round(performance.now() - begin);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (thrown) {
    assert.equal((thrown as NodeJS.ErrnoException).code, 'ESRCH');
  }
}

/** Nobody writes meanwhile: the file system is frozen. */
async function equalAtReceiver(site: Site, mount: string): Promise<void> {
  await command('fsfreeze', ['--freeze', mount]);
  try {
    await site.settled(PATIENCE_SECONDS);
    const there = await site.recovered('disk', 'latest');
    const here = scratch.path('here.img');
    await command('dd', [`if=${DEVICE}`, `of=${here}`, 'bs=1M', 'iflag=direct', 'status=none']);
    assert(there.equals(await readFile(here)), 'the receiver has what the device has');
  } finally {
    await command('fsfreeze', ['--unfreeze', mount]);
  }
  console.log('equal at the receiver');
}

/** What LVM would do at a refresh cannot take protection out. */
async function linearAgainIsRefused(): Promise<void> {
  const { status } = await command('dmsetup', ['load', NAME, '--table', `0 ${SECTORS} linear /dev/loop0 0`], {
    accept: [1],
  });
  assert.equal(status, 1);
}

const mapper = (args: string[]) => command('dmsetup', [...args, '--verifyudev']);

const [attach = 'loop'] = process.argv.slice(2);
assert(attach === 'loop' || attach === 'nbd');
try {
  console.log(JSON.stringify(await insertAndRemove(attach)));
} catch (thrown) {
  console.log(String((thrown as Error).stack));
  for (const name of ['agent.log', 'receiver.log'])
    console.log((await readFile(scratch.path(name), 'utf8').catch(() => '')).slice(-6000));
  for (const what of ['table', 'status', 'info']) console.log((await command('dmsetup', [what])).stdout);
  // What hangs would keep the machine from cleaning up.
  await writeFile('/proc/sysrq-trigger', 'w').catch(() => undefined);
  process.exit(1);
}
await scratch.clean();
