/** Modules of a stock kernel for a root file system that is to find them. */
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Kernel } from './kernel.js';

/** Copies those that `names` need, and what modprobe reads, below `root`. */
export async function modulesOf(kernel: Kernel, names: readonly string[], root: string): Promise<void> {
  const modules = path.join('lib/modules', kernel.release);
  const from = path.join(kernel.lib, 'modules', kernel.release);
  await mkdir(path.join(root, modules), { recursive: true });
  for (const file of filesOf(names, await readFile(path.join(from, 'modules.dep'), 'utf8'))) {
    await mkdir(path.join(root, modules, path.dirname(file)), { recursive: true });
    await copyFile(path.join(from, file), path.join(root, modules, file));
  }
  for (const name of ['modules.dep', 'modules.alias', 'modules.softdep'])
    await copyFile(path.join(from, name), path.join(root, modules, name));
}

/** The module files that `names` need, in the words of modules.dep: "FILE: DEPENDENCY…". */
function filesOf(names: readonly string[], dependencies: string): Set<string> {
  const files = new Set<string>();
  for (const line of dependencies.split('\n')) {
    const [file, needs] = line.split(':');
    if (file === undefined || needs === undefined) continue;
    if (!names.includes(path.basename(file).replace(/\.ko.*$/, ''))) continue;
    for (const one of [file, ...needs.split(' ')]) if (one !== '') files.add(one);
  }
  return files;
}
