/**
 * A Debian host to be booted in a virtual machine: its root file system is made once by debootstrap from the sources that this machine
 * is configured for, and kept below build/. What a test adds goes into a copy.
 */
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { command } from '../scenario/command.js';

const CACHE = path.resolve('build/host/root');
const SUITE = 'bookworm';
const PACKAGES = [
  'systemd',
  'systemd-sysv',
  'udev',
  'kmod',
  'dbus',
  'procps',
  'libstdc++6',
  'e2fsprogs',
  'dmsetup',
  'lvm2',
];
const SECONDS_MAX = 600;

/** A directory with a bare host, from the cache or made now; null: it cannot be made. */
export async function bareHost(): Promise<string | null> {
  if (existsSync(CACHE)) return CACHE;
  const uri = await mirror();
  if (uri === null) return null;
  const fresh = `${CACHE}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(path.dirname(fresh), { recursive: true });
  const include = `--include=${PACKAGES.join(',')}`;
  try {
    await command('debootstrap', ['--variant=minbase', include, SUITE, fresh, uri], {
      secondsMax: SECONDS_MAX,
    });
  } catch (thrown) {
    console.error(`a root file system cannot be made: ${(thrown as Error).message}`);
    return null;
  }
  // Nothing that a copy would carry along for nothing.
  for (const cached of ['var/cache/apt', 'var/lib/apt/lists', 'usr/share/doc', 'usr/share/locale'])
    await rm(path.join(fresh, cached), { recursive: true, force: true });
  await writeFile(path.join(fresh, 'etc/hostname'), 'db1\n');
  await writeFile(path.join(fresh, 'etc/hosts'), '127.0.0.1 localhost db1\n');
  // Under its name only once it is whole.
  await rename(fresh, CACHE);
  return CACHE;
}

/** An image with ext4 of a host that has `files` too, by their path in it. */
export async function imageOf(
  host: string,
  files: Record<string, string>,
  image: string,
  size: string,
): Promise<void> {
  const copy = `${image}.root`;
  await rm(copy, { recursive: true, force: true });
  await command('cp', ['-a', host, copy]);
  for (const [to, from] of Object.entries(files)) {
    const target = path.join(copy, to);
    await mkdir(path.dirname(target), { recursive: true });
    await cp(from, target, { recursive: true, dereference: true });
  }
  await rm(image, { force: true });
  await command('truncate', ['-s', size, image]);
  await command('mkfs.ext4', ['-q', '-d', copy, image], { secondsMax: 300 });
  await rm(copy, { recursive: true });
}

/** Where this machine has its packages from. */
async function mirror(): Promise<string | null> {
  const format = '$(CODENAME) $(REPO_URI)';
  const { stdout } = await command('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const line = stdout.split('\n').find((one) => one.startsWith(`${SUITE} `));
  return line?.split(' ')[1] ?? null;
}
