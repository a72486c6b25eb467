/**
 * Runs inside of a virtual machine (stock_kernels.test.ts): protection is put under a mounted device-mapper device and taken out
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
import { MappedDevice } from '../../../agent/mapped_device.js';
import { command } from '../../scenario/command.js';
import { CLI } from '../../scenario/daemon.js';
import { Scratch } from '../../scenario/scratch.js';
import { Site } from '../../scenario/site.js';
import { agentControlService, type GroupStatus } from '../../../proto/control.js';
import { EXIT } from '../../../proto/errors.js';
import { RpcClient } from '../../../service/rpc.js';
import { ioErrors, Load, PATIENCE_SECONDS, served } from './load.js';

const GROUP = 'vm';
const NAME = 'data';
const DEVICE = `/dev/mapper/${NAME}`;
const SECTORS = 65_536;
const WRITES_BETWEEN = 30;
/** Verbs and daemons start many times, each of which takes seconds of the same processors. */
const WRITES_PER_SECOND = 50;

const say = (text: string): void => console.log(`[${os.uptime().toFixed(0)} s] ${text}`);

const scratch = await Scratch.create('vm');

async function insertAndRemove(attach: 'loop' | 'nbd'): Promise<Record<string, unknown>> {
  const begunSeconds = os.uptime();
  for (const name of ['loop', 'fuse', 'nbd', 'dm-mod']) await command('modprobe', [name], { accept: [1] });
  await logicalVolume();
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [DEVICE, mount]);
  scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));
  const volumes = [{ name: 'disk', mapped: DEVICE, attach }];
  const site = await Site.create(scratch, { group: GROUP, volumes, ringBytes: '64MiB', supervised: true });
  await site.start(PATIENCE_SECONDS);
  assert.match((await agentGroup(site))?.detail ?? '', /VOLUME_NOT_INSERTED/, 'the agent waits for it');
  const load = new Load(mount, scratch.path('fio.json'), WRITES_PER_SECOND);
  const working = load.run();
  const goesOn = async (what: string): Promise<void> => {
    await served(DEVICE, WRITES_BETWEEN, load);
    say(`${what}: the load goes on`);
  };
  await goesOn('before');

  await verb(site, 'insert');
  await goesOn('inserted');
  await settled(site);
  await equalAtReceiver(site, mount);

  const pid = site.agent.supervisedPid();
  assert(pid !== null);
  process.kill(pid, 'SIGKILL');
  await sleep(500);
  await goesOn('the agent was killed');
  await settled(site);
  await killedBeforeConnecting(site, goesOn);

  await verb(site, 'remove');
  await goesOn('removed');
  await stoppedClean();
  await linearAgainIsRefused();

  await verb(site, 'insert');
  await goesOn('inserted again');
  // What was written past the agent is there too: all is compared.
  await settled(site);
  await equalAtReceiver(site, mount);
  // Whoever kills a verb runs it again, or the other one.
  await cutOff(site, 'remove');
  await verb(site, 'insert', 'VOLUME_INSERTED');
  await goesOn('a removal was cut off, and taken back');
  assert.deepEqual(ioErrors(begunSeconds), [], 'the kernel saw no I/O error');

  const last = site.agent.supervisedPid();
  await site.agent.kill();
  if (last !== null) killIfThere(last);
  await sleep(500);
  await verb(site, 'remove');
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
  return { attach, kernel: os.release(), rounds: load.rounds, writes: load.writes };
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

/** Succeeds, or is refused with `code`. */
async function verb(site: Site, name: 'insert' | 'remove', code = ''): Promise<void> {
  const options = { accept: code === '' ? [] : [EXIT.refused], secondsMax: PATIENCE_SECONDS };
  const { status, stderr } = await command(process.execPath, words(site, name), options);
  if (status !== 0) assert(stderr.includes(code), stderr);
}

/** The volume was attached and kept already; and its successor can do no more than serve. */
async function killedBeforeConnecting(site: Site, goesOn: (what: string) => Promise<void>): Promise<void> {
  const file = scratch.path('agent.toml');
  const right = await readFile(file, 'utf8');
  const pid = site.agent.supervisedPid();
  assert(pid !== null);
  await writeFile(file, right.replace('[[group]]', '[[gruop]]'));
  await new MappedDevice(DEVICE).hold();
  process.kill(pid, 'SIGKILL');
  await goesOn('the agent was killed while I/O waited, and its configuration is wrong');
  await writeFile(file, right);
  await settled(site);
}

/** Kills the verb as soon as I/O waits because of it. */
async function cutOff(site: Site, name: 'insert' | 'remove'): Promise<void> {
  const child = spawn(process.execPath, words(site, name), { stdio: 'inherit' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  while (child.exitCode === null) {
    const { stdout } = await command('dmsetup', ['table', NAME]);
    if (/ 0 0 0\s*$/.test(stdout)) break;
    await sleep(20);
  }
  child.kill('SIGKILL');
  await ended;
  assert.equal(child.exitCode, null, 'it was cut off');
  say(`${name} was cut off while I/O waited`);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (thrown) {
    assert.equal((thrown as NodeJS.ErrnoException).code, 'ESRCH');
  }
}

/** Without a process for each look, as Site has it: starting one takes seconds here. */
async function agentGroup(site: Site): Promise<GroupStatus | undefined> {
  const client = await RpcClient.openControl(site.agentControl);
  const limits = { timeoutMs: PATIENCE_SECONDS * 1000 };
  const status = client.callUnary(agentControlService.status, {}, limits);
  return (await status.finally(() => client.close())).groups[0];
}

async function settled(site: Site): Promise<void> {
  const deadline = performance.now() + PATIENCE_SECONDS * 1000;
  for (;;) {
    // An agent that was killed is away for a moment.
    const group = await agentGroup(site).catch(() => undefined);
    if (group?.state === 'protected' && group.durableLsn === group.capturedLsn) return;
    assert(performance.now() < deadline, `not protected: ${group?.state} ${group?.detail}`);
    await sleep(500);
  }
}

/** Nobody writes meanwhile: the file system is frozen. */
async function equalAtReceiver(site: Site, mount: string): Promise<void> {
  await command('fsfreeze', ['--freeze', mount]);
  try {
    await settled(site);
    const there = await site.recovered('disk', 'latest');
    const here = scratch.path('here.img');
    await command('dd', [`if=${DEVICE}`, `of=${here}`, 'bs=1M', 'iflag=direct', 'status=none']);
    assert(there.equals(await readFile(here)), 'the receiver has what the device has');
  } finally {
    await command('fsfreeze', ['--unfreeze', mount]);
  }
  say('equal at the receiver');
}

/** What was captured before the removal is at the receiver. */
async function stoppedClean(): Promise<void> {
  const deadline = performance.now() + PATIENCE_SECONDS * 1000;
  for (;;) {
    const log = await readFile(scratch.path('agent.log'), 'utf8');
    if (log.includes('"msg":"stopped"')) return;
    assert(!log.includes('"msg":"stopped; the next start compares'), 'all of it was sent');
    assert(performance.now() < deadline, 'the group has ended');
    await sleep(200);
  }
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
  await scratch.clean();
} catch (thrown) {
  for (const name of ['agent.log', 'receiver.log'])
    console.log((await readFile(scratch.path(name), 'utf8').catch(() => '')).slice(-6000));
  for (const what of ['table', 'status', 'info']) console.log((await command('dmsetup', [what])).stdout);
  // Without cleaning up: what waits would keep the machine from ending, and nothing of it stays.
  throw thrown;
}
