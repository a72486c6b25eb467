/**
 * What systemd and udev need of the distribution beyond what is installed here: packages from the sources that this machine
 * is configured for, fetched once and unpacked below build/. Nothing is installed.
 */
import { mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { command } from '../scenario/command.js';

const PACKAGES = ['systemd', 'systemd-sysv', 'udev', 'kmod'];
const CACHE = path.resolve('build/vm/systemd');
/** Packages name them in the old way, where the machine has links. */
const MERGED = ['bin', 'sbin', 'lib'];

/** A directory that is to lie over the root, from the cache or made now; null: the packages cannot be had. */
export async function systemdLayer(): Promise<string | null> {
  if (existsSync(CACHE)) return CACHE;
  const fresh = `${CACHE}.new`;
  const packages = `${CACHE}.packages`;
  for (const directory of [fresh, packages]) await rm(directory, { recursive: true, force: true });
  await mkdir(path.join(packages, 'partial'), { recursive: true });
  // Neither installs nor removes: it fetches what an installation would want, in versions that go together.
  const only = ['--download-only', '--no-install-recommends', '-o', `Dir::Cache::archives=${packages}`];
  try {
    await command('apt-get', ['install', '-qy', ...only, ...PACKAGES], { secondsMax: 300 });
  } catch (thrown) {
    console.error(`systemd and udev cannot be fetched: ${(thrown as Error).message}`);
    return null;
  }
  for (const name of MERGED) {
    await mkdir(path.join(fresh, 'usr', name), { recursive: true });
    await symlink(path.join('usr', name), path.join(fresh, name));
  }
  const files = (await readdir(packages)).filter((name) => name.endsWith('.deb'));
  const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"';
  for (const file of files) await command('sh', ['-c', unpack, 'sh', path.join(packages, file), fresh]);
  await rm(packages, { recursive: true });
  // Under its name only once it is whole.
  await rename(fresh, CACHE);
  return CACHE;
}
