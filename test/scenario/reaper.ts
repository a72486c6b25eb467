/**
 * Stands by while a scenario runs in DIRECTORY, and clears up after it when it could not do so itself: killed, or out
 * of time. A daemon, mount or loop device that stayed would break the next run. `node reaper.js DIRECTORY`; it begins
 * when its standard input ends, which is when whoever started it has ended.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from './command.js';
import { leftovers, loopFile } from './leftovers.js';

/** Daemons drain within this time, once nobody uses their devices any more. */
const SECONDS_MAX = 20;
const POLL_MS = 200;

const any = Array.from({ length: 256 }, (_, status) => status);
const attempt = (program: string, ...args: string[]): Promise<unknown> =>
  command(program, args, { accept: any, secondsMax: 10 }).catch(() => undefined);

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended by itself.
  }
}

async function reap(directory: string): Promise<void> {
  const first = await leftovers(directory);
  if (first.processes.length + first.mounts.length + first.loops.length === 0) {
    await rm(directory, { recursive: true, force: true });
    return;
  }
  console.error(`reaper: clearing up after ${directory}: ${JSON.stringify(first)}`);
  for (const { pid } of first.processes) {
    signal(pid, 'SIGCONT');
    signal(pid, 'SIGTERM');
  }
  const deadline = Date.now() + SECONDS_MAX * 1000;
  for (
    let left = first;
    left.processes.length > 0 && Date.now() < deadline;
    left = await leftovers(directory)
  ) {
    // The daemons' own mounts are in use as long as they run: these fail, and the daemons take them down.
    for (const mount of left.mounts) await attempt('umount', mount);
    await sleep(POLL_MS);
  }
  const last = await leftovers(directory);
  for (const { pid } of last.processes) signal(pid, 'SIGKILL');
  for (const mount of last.mounts) await attempt('umount', '--lazy', mount);
  for (const { device, file } of [...first.loops, ...last.loops]) {
    // A daemon that ended while its device was in use has detached the mount, and is seen by its path no more.
    const isStill = [file, `/${path.basename(file)}`].includes(await loopFile(device));
    if (isStill) await attempt('losetup', '--detach', device);
  }
  for (const link of last.links) await rm(link, { force: true });
  // Never through a mount that would not go.
  if ((await leftovers(directory)).mounts.length > 0) return;
  await rm(directory, { recursive: true, force: true });
}

const directory = process.argv[2];
if (directory === undefined) throw new Error('reaper: no directory');
// The signal that ended the scenario is not for this one.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => undefined);
process.stdin.resume();
process.stdin.on('close', () => void reap(directory));
