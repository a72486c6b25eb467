/** A file system in memory, below the scratch directory, and gone with it. */
import { mkdir } from 'node:fs/promises';
import { command } from './command.js';
import type { Scratch } from './scratch.js';

/** `bytes`: what it holds at most; without, half of the machine's memory. Returns its directory. */
export async function tmpfs(scratch: Scratch, name: string, bytes?: number): Promise<string> {
  const directory = scratch.path(name);
  await mkdir(directory);
  const size = bytes === undefined ? [] : ['-o', `size=${bytes}`];
  await command('mount', ['-t', 'tmpfs', ...size, 'tmpfs', directory]);
  // What this process itself has open there goes with it.
  scratch.defer(name, () => command('umount', ['--lazy', directory]));
  return directory;
}
