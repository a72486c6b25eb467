/**
 * The stock kernels of the distribution that virtual machines boot: packages from the sources that this machine is
 * configured for, fetched once and unpacked below build/. Nothing is installed.
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { command } from '../scenario/command.js';
/** By series, what the packages are called. */
const PACKAGES = {
    '6.1': /^linux-image-6\.1\.\d+-\d+-amd64$/,
    '6.12': /^linux-image-6\.12\.\d+\+deb12-amd64$/,
};
export const KERNEL_SERIES = Object.keys(PACKAGES);
const CACHE = path.resolve('build/vm');
/** What is in the cache, else the newest that the package sources have; null: they have none, or cannot be reached. */
export async function stockKernel(series) {
    const directory = path.join(CACHE, `kernel-${series}`);
    const known = await unpacked(directory);
    if (known !== null)
        return known;
    const name = await newestPackage(series);
    if (name === null)
        return null;
    const fresh = `${directory}.new`;
    await rm(fresh, { recursive: true, force: true });
    await mkdir(fresh, { recursive: true });
    try {
        await command('apt-get', ['download', '-q', name], { cwd: fresh, secondsMax: 300 });
    }
    catch (thrown) {
        console.error(`the package ${name} cannot be fetched: ${thrown.message}`);
        return null;
    }
    const [file] = await readdir(fresh);
    if (file === undefined)
        return null;
    await command('dpkg-deb', ['--extract', path.join(fresh, file), fresh]);
    await rm(path.join(fresh, file));
    const [release] = await readdir(path.join(fresh, 'lib/modules'));
    await command('depmod', ['--basedir', fresh, release ?? '']);
    // Under its name only once it is whole.
    await rename(fresh, directory);
    return unpacked(directory);
}
async function unpacked(directory) {
    const lib = path.join(directory, 'lib');
    const [release] = await readdir(path.join(lib, 'modules')).catch(() => []);
    return release === undefined
        ? null
        : { release, image: path.join(directory, 'boot', `vmlinuz-${release}`), lib };
}
async function newestPackage(series) {
    const { stdout } = await command('apt-cache', ['pkgnames', `linux-image-${series}.`]);
    const names = stdout.split('\n').filter((name) => PACKAGES[series].test(name));
    names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    return names.at(-1) ?? null;
}
//# sourceMappingURL=kernel.js.map