/** A site whose agent dies, and production that is asked again and again whether it still works. */
import { spawn } from 'node:child_process';
import { appendFile, readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { FaultDirectory } from '../fault/fault_directory.js';
import { command, ended } from './command.js';
import { Scratch } from './scratch.js';
import { afterimage, groupOf, nbdUri, Site, type GroupReport } from './site.js';

export const GROUP = 'serves';
export const BYTES = 32 << 20;

/** A protected volume, and production that is asked again and again whether it still works. */
export async function production(
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
