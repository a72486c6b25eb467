/** What programs whose files lie below one directory have on this machine: found by looking, not by having been told. */
import { readFile, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';

export interface Leftovers {
  processes: { pid: number; words: string }[];
  /** Mount points, the innermost first. */
  mounts: string[];
  loops: { device: string; file: string }[];
  sockets: string[];
  /** Links below /dev/afterimage to one of the loop devices, or to none any more. */
  links: string[];
}

const LINKS = '/dev/afterimage';

export async function leftovers(directory: string): Promise<Leftovers> {
  const inside = (file: string): boolean => file.startsWith(`${directory}/`);
  const loops: Leftovers['loops'] = [];
  const attached: string[] = [];
  for (const name of await readdir('/sys/block')) {
    const device = `/dev/${name}`;
    const file = await loopFile(device);
    if (file !== '') attached.push(device);
    if (inside(file)) loops.push({ device, file });
  }
  const links: string[] = [];
  for (const entry of await readdir(LINKS, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isSymbolicLink()) continue;
    const link = path.join(entry.parentPath, entry.name);
    const target = await readlink(link).catch(() => '');
    if (!attached.includes(target) || loops.some(({ device }) => device === target)) links.push(link);
  }
  const mountinfo = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  const mounts = mountinfo.map((line) => line.split(' ')[4] ?? '').filter(inside);
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return {
    processes: await processesOf(directory),
    mounts: mounts.sort((a, b) => b.length - a.length),
    loops,
    sockets: entries
      .filter((entry) => entry.isSocket())
      .map((entry) => path.join(entry.parentPath, entry.name)),
    links,
  };
}

/** "": it has none. Within a mount that is detached the path begins there: a volume of a FUSE server that is gone is "/volume". */
export async function loopFile(device: string): Promise<string> {
  const file = `/sys/block/${path.basename(device)}/loop/backing_file`;
  return (await readFile(file, 'utf8').catch(() => '')).trimEnd();
}

/** Every process but this one that names a file of the directory in its command line. */
async function processesOf(directory: string): Promise<Leftovers['processes']> {
  const found: Leftovers['processes'] = [];
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!(pid > 0) || pid === process.pid) continue;
    const words = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => ''))
      .replaceAll('\0', ' ')
      .trim();
    if (words.includes(`${directory}/`)) found.push({ pid, words });
  }
  return found;
}
