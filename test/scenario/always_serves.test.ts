/**
 * Whatever is wrong where a killed agent is followed by the next, production goes on (DESIGN, "It always serves"): a typo in
 * the configuration, a state that cannot be read, memory of another layout, an agent that dies each time it starts. And
 * when it is put right, so is the protection.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { appendFile, open, readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { layouts } from '../../agent/layouts.js';
import { FaultDirectory, type FaultRule } from '../fault/fault_directory.js';
import { command, ended } from './command.js';
import { Scratch } from './scratch.js';
import { afterimage, groupOf, nbdUri, Site, type GroupReport } from './site.js';

t.setTimeout(600_000);

const GROUP = 'serves';
const BYTES = 32 << 20;
/** agent/short_lives.ts, SHORT_MAX: the next one is the last that is trusted with more than serving. */
const DEATHS = 31;

/** A protected volume, and production that is asked again and again whether it still works. */
async function production(
  t: Test,
  name: string,
  {
    hasFaultyState = false,
    attach = 'loop',
    others = [],
  }: { hasFaultyState?: boolean; attach?: 'loop' | 'socket'; others?: string[] } = {},
) {
  const scratch = await Scratch.create(name);
  t.teardown(() => scratch.clean());
  const faults = hasFaultyState ? await FaultDirectory.start(scratch, 'faults') : null;
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach }];
  const state = faults === null ? {} : { state: `${faults.mount}/state` };
  // Run by each daemon before it is one.
  const hook = scratch.path('hook.cjs');
  await writeFile(hook, '');
  const env = { ...process.env, NODE_OPTIONS: `--require=${hook}` };
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true, env, ...state });
  for (const group of others) {
    const image = scratch.path(`${group}.img`);
    await command('truncate', ['-s', String(BYTES), image]);
    const volume = `[[group.volume]]\nname = "disk"\nbacking = "${image}"\nattach = "loop"\n`;
    await appendFile(scratch.path('agent.toml'), `[[group]]\nname = "${group}"\n${volume}`);
  }
  await site.start();
  const before = await site.settled();
  const device = before.volumes[0]?.device ?? '';
  const overDevice = (name: string): string[] => ['--ioengine=libaio', '--direct=1', `--filename=${name}`];
  const served = attach === 'loop' ? overDevice(device) : ['--ioengine=nbd', `--uri=${nbdUri(before)}`];
  /** Writes with verification: fails where a write or a read does, or where something else is read back. */
  const works = async (target = served): Promise<boolean> => {
    const flags = ['--rw=randwrite', '--bs=4k', '--iodepth=8', '--size=32m', '--io_size=4m'];
    const fio = spawn('fio', ['--name=p', ...target, ...flags, '--verify=crc32c'], { stdio: 'ignore' });
    scratch.defer('fio', () => void fio.kill('SIGKILL'));
    return (await ended(fio, 60)) === 0;
  };
  /** Kills the agent, and returns when another one runs. */
  const kill = async (): Promise<void> => {
    const pid = site.agent.supervisedPid();
    if (pid === null) return;
    process.kill(pid, 'SIGKILL');
    while ([null, pid].includes(site.agent.supervisedPid())) await sleep(10);
  };
  const sameAgain = async (): Promise<GroupReport> => {
    await site.agent.answers();
    const group = await site.settled();
    const recovered = await site.recovered('disk', 'latest');
    t.ok(recovered.equals(await readFile(backing)), 'the latest point is what the backing holds');
    return group;
  };
  /** Of another group than the site's. */
  const other = async (group: string): Promise<GroupReport> => {
    const { stdout } = await afterimage(['status', '--control', site.agentControl, '--json']);
    return groupOf(JSON.parse(stdout), 'agent', group);
  };
  const worksToo = async (group: string): Promise<boolean> =>
    works(overDevice((await other(group)).volumes[0]?.device ?? ''));
  /** How often it is in the agent's log. */
  const told = async (what: RegExp): Promise<number> =>
    (await readFile(scratch.path('agent.log'), 'utf8')).match(what)?.length ?? 0;
  const giveBack = (): Promise<void> => rename(`${backing}.away`, backing);
  const takeAway = async (): Promise<void> => {
    await rename(backing, `${backing}.away`);
    scratch.defer('backing', () => giveBack().catch(() => undefined)); // or nothing that waits for it ends
  };
  const parts = { scratch, site, before, hook, faults };
  return { ...parts, works, other, worksToo, kill, sameAgain, told, takeAway, giveBack };
}

/** Changes 4 bytes of a memfd that the supervisor keeps. */
function damage(supervisor: number, name: string, offset: number): void {
  const directory = `/proc/${supervisor}/fd`;
  const found = readdirSync(directory).filter((fd) =>
    readlinkSync(`${directory}/${fd}`).includes(`memfd:${name}`),
  );
  if (found.length !== 1) throw new Error(`${found.length} descriptors of ${name}`);
  const descriptor = openSync(`${directory}/${found[0]}`, 'r+');
  writeSync(descriptor, Buffer.alloc(4, 0xee), 0, 4, offset);
  closeSync(descriptor);
}

t.test('a typo in the configuration', async (t) => {
  const { scratch, site, before, works, kill, sameAgain } = await production(t, 'typo');
  const file = scratch.path('agent.toml');
  const right = await readFile(file, 'utf8');
  await writeFile(file, right.replace('[[group]]', '[[gruop]]'));
  await kill();
  t.ok(await works(), 'production goes on');
  // It is served before the configuration is looked at.
  await site.agent.tells(/CONFIG_INVALID/);
  await writeFile(file, right);
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('a command line with a mistake', async (t) => {
  const { site, before, works, kill, sameAgain, hook } = await production(t, 'line');
  await writeFile(hook, "if (process.argv.includes('agent')) process.argv.push('--nonsense');");
  await kill();
  t.ok(await works(), 'production goes on');
  await site.agent.tells(/--nonsense[^]*only serves/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('half of an upgrade', async (t) => {
  const { site, before, works, kill, sameAgain, hook } = await production(t, 'upgrade');
  const resolve =
    'export async function resolve(name, context, next) {' +
    "if (name === './command.js') throw new Error('command.js is missing'); return next(name, context); }";
  const loader = `data:text/javascript,${encodeURIComponent(resolve)}`;
  await writeFile(
    hook,
    `if (process.argv.includes('agent')) require('node:module').register(${JSON.stringify(loader)});`,
  );
  await kill();
  t.ok(await works(), 'production goes on');
  await site.agent.tells(/command.js is missing[^]*only serves/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('an upgrade that could not go on with what is in memory', async (t) => {
  const { site, before, works, sameAgain, hook, told } = await production(t, 'layouts');
  const pid = site.agent.supervisedPid();
  const refused = async (program: string, times: number): Promise<void> => {
    await writeFile(hook, `if (process.argv.includes('layouts')) { ${program} }`);
    site.agent.signal('SIGUSR2');
    while ((await told(/is refused, this one serves on/g)) < times) await sleep(50);
    t.equal(site.agent.supervisedPid(), pid, 'the agent is the same');
    t.ok(await works(), 'production goes on');
  };
  const newer = JSON.stringify({ layouts: { ...layouts(), slots: { oldest: 1000, written: 1000 } } });
  await refused(`console.log(${JSON.stringify(newer)}); process.exit(0);`, 1);
  await site.agent.tells(/cannot read slots of version/);
  await refused("throw new Error('half of it');", 2);
  await site.agent.tells(/half of it/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  while ([null, pid].includes(site.agent.supervisedPid())) await sleep(10);
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

// Symptom: the answer came when the agent had been told to stop, and it killed itself while its users were waited for.
t.test('a stop while the program that would follow is asked', async (t) => {
  const { site, hook } = await production(t, 'layouts-stop');
  await writeFile(hook, "if (process.argv.includes('layouts')) setTimeout(() => undefined, 600_000);");
  site.agent.signal('SIGUSR2');
  await site.agent.tells(/asking the program/);
  t.equal(await site.agent.stop(), 0);
  await site.agent.tells(/a stop is under way/);
});

t.test('a state that is damaged, or not there', async (t) => {
  const { scratch, site, before, works, kill, sameAgain } = await production(t, 'state');
  const file = scratch.path('state', `${GROUP}.json`);
  for (const spoil of [() => writeFile(file, '{"version":1,'), () => Promise.resolve()]) {
    await rename(file, `${file}.away`);
    await spoil();
    await kill();
    t.ok(await works(), 'production goes on');
    await site.agent.answers();
    await site.waitFor('told of', 30, ({ detail }) => detail.includes('STATE_INVALID'));
    await rename(`${file}.away`, file);
    t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
  }
});

// Torture found the first: a start that could not store its epoch never ended, so that the group was neither tried again nor
// stopped.
t.test('a state directory without space, or that cannot be read', async (t) => {
  const { site, before, works, kill, sameAgain, faults } = await production(t, 'state-full', {
    hasFaultyState: true,
  });
  const wrongs: [string, FaultRule[]][] = [
    [
      'DISK_FULL',
      (['write', 'create'] as const).map((op) => ({ op, path: '*', do: 'fail', errno: 'ENOSPC' })),
    ],
    ['IO_ERROR', [{ op: 'read', path: '*.json', do: 'fail', errno: 'EIO' }]],
  ];
  for (const [code, rules] of wrongs) {
    for (const rule of rules) await faults?.add(rule);
    await kill();
    t.ok(await works(), 'production goes on');
    await site.agent.answers();
    await site.waitFor('told of', 30, ({ detail }) => detail.includes(code));
    await faults?.clear();
    t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
  }
});

// Symptom: the agent died while the disk of its state directory hung, and production waited until the disk answered.
t.test('a state directory whose disk does not answer', async (t) => {
  const { scratch, site, before, works, kill, sameAgain, told, faults } = await production(t, 'state-hangs', {
    hasFaultyState: true,
  });
  scratch.defer('frozen disk', () => faults?.thaw());
  faults?.freeze();
  await kill();
  t.ok(await works(), 'production goes on');
  faults?.thaw();
  t.equal((await sameAgain()).generation, before.generation, 'the stream goes on');
  t.ok((await told(/dirty log of .* does not answer/g)) > 0, 'and what did not answer is told');
  faults?.freeze();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/"stopping"/);
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'nor does it keep an agent from ending that is told twice');
  faults?.thaw();
});

// Torture found it: an NBD export waited for the state directory, and its clients were refused meanwhile.
t.test('a state that cannot be read, and clients of a socket', async (t) => {
  const { scratch, site, before, works, sameAgain } = await production(t, 'state-nbd', { attach: 'socket' });
  const file = scratch.path('state', `${GROUP}.json`);
  await rename(file, `${file}.away`);
  await writeFile(file, '{"version":1,');
  // Nobody is there yet when they connect: they wait, and are not turned away.
  site.agent.signal('SIGSTOP');
  process.kill(site.agent.supervisedPid() ?? 0, 'SIGKILL');
  const working = works();
  await sleep(500);
  site.agent.signal('SIGCONT');
  t.ok(await working, 'production goes on');
  await site.agent.answers();
  await site.waitFor('told of', 30, ({ detail }) => detail.includes('STATE_INVALID'));
  await rename(`${file}.away`, file);
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

// Symptom: a disk that was missing when the agent came back kept all groups from their sessions and their control socket, and
// a stop from being heard, for as long as it was missing.
t.test('a backing that is away, and another group', async (t) => {
  const { site, before, works, other, worksToo, kill, sameAgain, takeAway, giveBack } = await production(
    t,
    'away',
    {
      others: ['calm'],
    },
  );
  await takeAway();
  await kill();
  const working = works();
  await site.agent.answers();
  t.ok(await worksToo('calm'), 'production of the other group goes on');
  await site.waitFor('told of', 30, ({ detail }) => detail.includes('BACKING_MISSING'));
  while ((await other('calm')).state !== 'protected') await sleep(100);
  await giveBack();
  t.ok(await working, 'and of this one when its backing is back');
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

// Symptom: a successor opened whatever was at the backing's path, and production went on with somebody else's bytes.
t.test('another file in the place of the backing', async (t) => {
  const { scratch, site, before, works, kill, sameAgain, takeAway, giveBack } = await production(
    t,
    'replaced',
  );
  const backing = scratch.path('volume.img');
  await takeAway();
  await writeFile(backing, Buffer.alloc(BYTES, 'theirs'));
  await kill();
  const working = works();
  await site.agent.tells(/BACKING_REPLACED/);
  t.ok((await readFile(backing)).equals(Buffer.alloc(BYTES, 'theirs')), 'nobody writes to it');
  await giveBack();
  t.ok(await working, 'production had waited, and goes on');
  t.equal((await sameAgain()).generation, before.generation);
});

t.test('a stop while a backing is away waits for it', async (t) => {
  const { site, works, kill, takeAway, giveBack } = await production(t, 'away-stop', { others: ['calm'] });
  await takeAway();
  await kill();
  const working = works();
  await site.agent.answers();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/so does the stop/);
  await giveBack();
  t.ok(await working, 'production that had waited goes on');
  t.equal(await site.agent.ends(), 0, 'and the stop too');
});

t.test('a second signal gives a volume up whose backing is away', async (t) => {
  const { site, kill, sameAgain, takeAway, giveBack } = await production(t, 'away-end', { others: ['calm'] });
  await takeAway();
  await kill();
  await site.agent.answers();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/so does the stop/);
  t.equal(await site.agent.stop(), 0);
  await giveBack();
  await site.agent.start();
  await sameAgain();
});

// Symptom: an agent that only serves, or tries again what is wrong with its configuration, is never ready, and its supervisor
// kept a stop to itself until then: nothing ended them but SIGKILL, and I/O hung for ever.
t.test('a stop of an agent that cannot do more than serve', async (t) => {
  const { scratch, site, before, kill, sameAgain, hook } = await production(t, 'serves-stop');
  const file = scratch.path('agent.toml');
  const right = await readFile(file, 'utf8');
  const wrongs: [RegExp, () => Promise<void>][] = [
    [/only serves/, () => writeFile(hook, "if (process.argv.includes('agent')) process.argv.push('--no');")],
    [/CONFIG_INVALID/, () => writeFile(file, right.replace('[[group]]', '[[gruop]]'))],
  ];
  let group = before;
  for (const [told, spoil] of wrongs) {
    const user = await open(group.volumes[0]?.device ?? '', 'r');
    await spoil();
    await kill();
    await site.agent.tells(told);
    site.agent.signal('SIGTERM');
    await site.agent.tells(/in use: waiting/);
    t.equal((await user.read({ length: 4096 })).bytesRead, 4096, 'whoever uses a device keeps the agent');
    await user.close();
    while (site.agent.running) await sleep(50);
    await writeFile(hook, '');
    await writeFile(file, right);
    await site.agent.start();
    group = await sameAgain();
  }
});

// Symptom: an agent whose backing does not answer could be told to stop as often as one liked; after SIGKILL the supervisor
// started another one, which hung likewise.
t.test('a stop of an agent whose backing does not answer', async (t) => {
  const scratch = await Scratch.create('serves-frozen');
  t.teardown(() => scratch.clean());
  const disk = await FaultDirectory.start(scratch, 'disk');
  scratch.defer('frozen disk', () => disk.thaw());
  const backing = `${disk.mount}/volume.img`;
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true });
  await site.start();
  const before = await site.settled();
  const isStopping = async (times: number): Promise<void> => {
    const log = (): Promise<string> => readFile(scratch.path('agent.log'), 'utf8');
    while (((await log()).match(/"stopping"/g)?.length ?? 0) < times) await sleep(20);
  };

  disk.freeze();
  process.kill(site.agent.supervisedPid() ?? 0, 'SIGKILL');
  await site.agent.tells(/production is served and not protected|the group cannot be started/);
  site.agent.signal('SIGTERM');
  await site.agent.tells(/a second signal gives it up/);
  await isStopping(1);
  t.ok(site.agent.running, 'it is waited for');
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'and given up');

  const started = site.agent.start().catch(() => undefined); // it never answers
  while (!existsSync(site.agentControl)) await sleep(20);
  site.agent.signal('SIGTERM');
  await isStopping(2);
  t.ok(site.agent.running, 'it is waited for at a cold start');
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'and given up');
  await started;

  disk.thaw();
  await site.agent.start();
  const after = await site.settled();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'it did not end in order');
});

t.test('a ring of another layout', async (t) => {
  const { site, before, works, kill, sameAgain } = await production(t, 'ring');
  damage(site.agent.pid, 'afterimage-ring', 8);
  await kill();
  t.ok(await works(), 'production goes on');
  const after = await sameAgain();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'the stream is another one');
  t.match(await site.agent.tail(), /RING_LAYOUT/);
});

t.test('request slots of another layout', async (t) => {
  const { site, before, works, kill, sameAgain, told } = await production(t, 'slots');
  damage(site.agent.pid, 'afterimage-slots', 8);
  const working = works();
  await sleep(300);
  await kill();
  t.ok(await working, 'production goes on, since this kernel sends again what nobody answered');
  t.equal((await sameAgain()).generation, before.generation);
  t.equal(await told(/SLOTS_LAYOUT/g), 1);
  // Symptom: the store went on keeping the old ones, so that each successor had to do without what was under way.
  const again = works();
  await sleep(300);
  await kill();
  t.ok(await again);
  t.equal((await sameAgain()).generation, before.generation);
  t.equal(await told(/SLOTS_LAYOUT/g), 1, 'the one after has the new slots');
});

t.test('a table of writes in flight of another layout', async (t) => {
  const { site, before, works, kill, sameAgain, told } = await production(t, 'table');
  damage(site.agent.pid, 'afterimage-in-flight', 8);
  await kill();
  t.ok(await works(), 'production goes on');
  const after = await sameAgain();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'the stream is another one');
  await kill();
  t.ok(await works());
  t.equal((await sameAgain()).generation, after.generation, 'the one after has the new table');
  t.equal(await told(/what was being written is not known/g), 1);
});

t.test('an agent that dies whenever it starts', async (t) => {
  const { site, works, kill, sameAgain, told } = await production(t, 'loop');
  const working = works();
  for (let death = 1; death <= DEATHS; death += 1) {
    await kill();
    while ((await told(/serving what a predecessor served/g)) < death) await sleep(20);
  }
  for (let waits = 0; waits < 100 && (await told(/only serves/g)) === 0; waits += 1) await sleep(50);
  t.equal(await told(/only serves/g), 1, 'the last one does nothing but serve');
  t.ok(await working, 'production goes on meanwhile');
  t.ok(await works(), 'and then');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  await sameAgain();
});
