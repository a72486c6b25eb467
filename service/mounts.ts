/** What is mounted where (proc_pid_mountinfo(5)), and what is swapped to (proc_swaps(5)). */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { AfterimageError } from '../proto/errors.js';
import { deviceNumber } from './device_number.js';

const run = promisify(execFile);
const UMOUNT_MS_MAX = 10_000;

/** Whether something is mounted exactly there. */
export async function isMountPoint(directory: string): Promise<boolean> {
  return (await mounts()).some((mount) => mount.mountPoint === directory);
}

/** Where `device` is mounted in this mount namespace. */
export async function mountPointsOf(device: string): Promise<string[]> {
  const number = deviceNumber((await stat(device, { bigint: true })).rdev);
  return (await mounts()).filter((mount) => mount.device === number).map((mount) => mount.mountPoint);
}

/** Which mount `file`, an absolute path without links, lies in. */
export async function mountOf(file: string): Promise<Mount | null> {
  const holds = ({ mountPoint }: Mount): boolean =>
    mountPoint === '/' || file === mountPoint || file.startsWith(`${mountPoint}/`);
  const longest = (found: Mount | null, mount: Mount): Mount =>
    found === null || mount.mountPoint.length >= found.mountPoint.length ? mount : found;
  // One that was mounted over another is behind it.
  return (await mounts()).filter(holds).reduce(longest, null);
}

/** Files and devices. */
export async function swapAreas(): Promise<string[]> {
  // Under a heading; none where the kernel does not swap.
  const table = await readFile('/proc/swaps', 'utf8').catch(() => '');
  const lines = table.split('\n').slice(1);
  return lines.filter((line) => line !== '').map((line) => unescape(line.split(/\s/)[0] ?? ''));
}

/** Errors: FUSE_MOUNT. */
export async function unmount(directory: string): Promise<void> {
  try {
    await run('umount', [directory], { timeout: UMOUNT_MS_MAX });
  } catch (cause) {
    throw new AfterimageError(
      'FUSE_MOUNT',
      `${directory} is still mounted, by a daemon that was killed: ${(cause as Error).message}`,
      { cause },
    );
  }
}

export interface Mount {
  /** "major:minor". */
  device: string;
  mountPoint: string;
  /** Of its file system. */
  type: string;
  source: string;
  /** Of the file system, not of this mount of it. */
  options: string[];
}

async function mounts(): Promise<Mount[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      // What is optional ends with a dash.
      const [fields = [], ofFileSystem = []] = line.split(' - ').map((part) => part.split(' '));
      const [type = '', source = '', options = ''] = ofFileSystem;
      return {
        device: fields[2] ?? '',
        mountPoint: unescape(fields[4] ?? ''),
        type,
        source: unescape(source),
        options: options.split(',').map(unescape),
      };
    });
}

/** Spaces, tabs, newlines and backslashes are written as octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}
