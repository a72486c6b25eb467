/**
 * Ends at odd moments. A recovery that is cut says so and goes on where it stopped; daemons that are told to end while
 * they start, copy or serve, do end, and leave no loop device, mount, socket, export or process behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { command, ended } from './command.js';
import { CLI } from './daemon.js';
import { leftovers } from './leftovers.js';
import { Scratch } from './scratch.js';
import { afterimage, Site } from './site.js';
import { until } from './until.js';

t.setTimeout(600_000);

const GROUP = `interrupted-${process.pid}`;
const MIB = 1 << 20;
/** So large that neither a sync nor a recovery is over before the test has looked. */
const LARGE_BYTES = 256 * MIB;
const SMALL_BYTES = 16 * MIB;
const MOMENTS = 5;

interface Run {
  child: ChildProcess;
  stderr: () => string;
  stdout: () => string;
}
interface Recovered {
  volumes: { bytesDone: number; bytesWritten: number }[];
}
interface Progress {
  progress: { bytesDone: number; phase: string };
}

/** The command as a process that can be signalled. */
function begin(args: string[]): Run {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return { child, stdout: () => stdout, stderr: () => stderr };
}

/** The objects of a kind among JSON lines. */
function objects<T>(text: string, kind: string): T[] {
  const lines = text.split('\n').filter((line) => line.startsWith(`{"${kind}"`));
  return lines.map((line) => JSON.parse(line) as T);
}

async function randomFile(file: string, bytes: number): Promise<void> {
  await command('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', `count=${bytes / MIB}`, 'status=none']);
}

t.test(
  'a recovery that is cut by Ctrl-C or by the end of its receiver goes on where it stopped',
  async (t) => {
    const scratch = await Scratch.create('cut');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await randomFile(backing, LARGE_BYTES);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'socket' }],
    });
    await site.start();
    const { durableLsn } = await site.settled();
    const target = scratch.path('recovered.img');
    const recover = ['recover', `${GROUP}/disk`, '--at', `lsn:${durableLsn}`, '--to', target, '--json'];
    const control = ['--control', site.receiverControl];
    const allocated = async (): Promise<number> => (await stat(target).catch(() => null))?.blocks ?? 0;
    const recorded = async (): Promise<number> => {
      const text = await readFile(`${target}.afterimage-resume`, 'utf8');
      return Number((JSON.parse(text) as { offset: string }).offset);
    };

    const first = begin([...recover, ...control]);
    await until('a part is written', async () => (await allocated()) * 512 > 16 * MIB);
    first.child.kill('SIGINT');
    t.equal(await ended(first.child, 30), 130, 'Ctrl-C ends it with 130');
    const [cut] = objects<{ error: { code: string; message: string } }>(first.stderr(), 'error');
    t.match(cut?.error, { code: 'INTERRUPTED', message: `--at lsn:${durableLsn} it goes on` });
    t.equal(first.stdout(), '', 'and it claims nothing');
    await until('the receiver has noticed', async () => (await recorded()) > 0);
    const reached = await recorded();
    t.ok(reached < LARGE_BYTES, `it was cut at ${reached} of ${LARGE_BYTES} bytes`);
    const { ino } = await stat(target);

    const second = begin([...recover, ...control]);
    await until('it goes on', async () => {
      if (second.child.exitCode !== null) throw new Error(`the second run ended: ${second.stderr()}`);
      return (await allocated()) * 512 > reached + 16 * MIB;
    });
    t.equal(await site.receiver.stop(), 0, 'a receiver ends in order in the middle of a recovery');
    t.ok([6, 130].includes(Number(await ended(second.child, 30))), 'the command notices');
    t.match(second.stderr(), /"code":"(INTERRUPTED|DAEMON_UNREACHABLE)"/);
    const [resumed] = objects<Progress>(second.stderr(), 'progress');
    t.ok((resumed?.progress.bytesDone ?? 0) >= reached, 'the second run began where the first had stopped');
    const farther = await recorded();
    t.ok(farther > reached && farther < LARGE_BYTES, `then it was cut at ${farther}`);

    await site.receiver.start();
    const done = JSON.parse((await afterimage([...recover, ...control])).stdout) as Recovered;
    t.equal(done.volumes[0]?.bytesDone, LARGE_BYTES);
    t.equal(
      done.volumes[0]?.bytesWritten,
      LARGE_BYTES - farther,
      'the third run wrote just what was missing',
    );
    t.equal((await stat(target)).ino, ino, 'into the same file');
    await command('cmp', [backing, target]);
    t.notOk(await stat(`${target}.afterimage-resume`).catch(() => null), 'nothing is left to resume');
  },
);

t.test('an agent that is told to end at any moment of its start leaves nothing behind', async (t) => {
  const scratch = await Scratch.create('start');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await randomFile(backing, SMALL_BYTES);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', backing, attach: 'loop' }],
  });
  await site.receiver.start();
  const run = ['agent', 'run', '--config', scratch.path('agent.toml')];
  const before = Date.now();
  await site.agent.start();
  const startMs = Date.now() - before;
  await site.settled();
  t.equal(await site.agent.stop(), 0);

  for (let moment = 1; moment <= MOMENTS; moment += 1) {
    const agent = begin(run);
    await sleep((startMs * moment) / MOMENTS);
    agent.child.kill('SIGTERM');
    const status = await ended(agent.child, 60);
    // Before the command has begun to look after signals, the signal itself ends it.
    t.ok(
      status === 0 || status === 'SIGTERM',
      `told after ${moment}/${MOMENTS} of a start, ends with ${status}`,
    );
    t.same(await remains(site), [], 'nothing is left');
  }
  await site.agent.start();
  await site.settled();
  await assertReplica(t, site, backing, SMALL_BYTES);
});

t.test(
  'daemons that are told to end during an initial sync end, and the sync goes on afterwards',
  async (t) => {
    const scratch = await Scratch.create('sync');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await randomFile(backing, LARGE_BYTES);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'loop' }],
      // However fast the machine is, the sync takes seconds.
      groupLines: ['resync_rate_max = "32MiB"'],
    });
    await site.start();
    await until('the initial sync', async () => (await site.agentGroup()).state === 'initial-sync');
    // A receiver that stands still holds the sync where it is.
    site.receiver.signal('SIGSTOP');
    scratch.defer('stopped receiver', () => site.receiver.signal('SIGCONT'));
    const device = (await site.agentGroup()).volumes[0]?.device ?? '';
    await command('dd', ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'count=2', 'seek=8', 'oflag=direct']);
    t.equal(await site.agent.stop(60), 0, 'the agent ends although its receiver stands still');
    t.same(await remains(site), []);
    site.receiver.signal('SIGCONT');

    await site.agent.start();
    const again = await site.agentGroup();
    t.equal(await site.receiver.stop(), 0, 'the receiver ends during a sync');
    t.not(again.state, 'protected', 'the sync was not over');
    await site.receiver.start();
    await site.settled();
    await assertReplica(t, site, backing, LARGE_BYTES);
  },
);

t.test('a receiver that is told to end with exports open, or opening, takes them with it', async (t) => {
  const scratch = await Scratch.create('exports');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await randomFile(backing, SMALL_BYTES);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
  });
  await site.start();
  await site.settled();
  const control = ['--control', site.receiverControl];
  const exported = ['export', GROUP, '--at', 'latest'];
  await site.ask(...exported);
  await site.ask(...exported, '--tcp', '127.0.0.1:0');
  await site.ask(...exported, '--device');
  const before = Date.now();
  await site.ask(...exported, '--writable', '--device');
  const openMs = Date.now() - before;
  t.equal(await site.receiver.stop(), 0);
  t.same(await remains(site), [], 'four open exports are gone');

  for (let moment = 1; moment <= MOMENTS; moment += 1) {
    await site.receiver.start();
    const opening = begin([...exported, '--writable', '--device', '--json', ...control]);
    await sleep((openMs * moment) / MOMENTS);
    t.equal(await site.receiver.stop(), 0);
    const status = await ended(opening.child, 30);
    t.match(
      status === 0 ? opening.stdout() : opening.stderr(),
      /^\{"(error|volumes)"/m,
      `ends with ${status}`,
    );
    t.same(await remains(site), [], `told after ${moment}/${MOMENTS} of an opening, leaves nothing`);
  }

  await site.receiver.start();
  for (let moment = 1; moment <= MOMENTS; moment += 1) {
    const opening = begin([...exported, '--device', '--json', ...control]);
    await sleep((openMs * moment) / MOMENTS);
    opening.child.kill('SIGINT');
    const status = await ended(opening.child, 30);
    const open = await site.ask<{ exports: { id: string }[] }>('export', 'list');
    if (status === 0) await site.ask('export', 'close', open.exports[0]?.id ?? '');
    else await until('the export is given up', async () => (await exportsOpen(site)) === 0);
    t.equal(
      await exportsOpen(site),
      0,
      `Ctrl-C after ${moment}/${MOMENTS} ends with ${status}, no export is left`,
    );
  }
});

async function exportsOpen(site: Site): Promise<number> {
  return (await site.ask<{ exports: unknown[] }>('export', 'list')).exports.length;
}

/** What the daemons that have ended left, in words. */
async function remains(site: Site): Promise<string[]> {
  const { processes, mounts, loops, sockets, links } = await leftovers(site.scratch.directory);
  const running = [site.agent, site.receiver].filter((daemon) => daemon.running);
  const isOfRunning = (socket: string): boolean =>
    running.some(({ control }) => socket === control) ||
    (site.agent.running && socket.endsWith('-disk.sock'));
  return [
    ...processes.filter(({ pid }) => !running.some((daemon) => daemon.pid === pid)).map(({ words }) => words),
    ...mounts,
    ...loops.map(({ device, file }) => `${device} over ${file}`),
    ...sockets.filter((socket) => !isOfRunning(socket)),
    ...links.filter((link) => link.includes(GROUP)),
  ];
}

/** The agent is stopped in order: the latest point and the backing must be the same. */
async function assertReplica(t: Test, site: Site, backing: string, bytes: number): Promise<void> {
  t.equal(await site.agent.stop(), 0);
  const image = site.scratch.path('latest.img');
  await afterimage([
    'recover',
    `${GROUP}/disk`,
    '--at',
    'latest',
    '--to',
    image,
    '--control',
    site.receiverControl,
  ]);
  t.equal((await stat(image)).size, bytes);
  await command('cmp', [backing, image]);
}
