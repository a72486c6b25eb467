/** What programs whose files lie below one directory have on this machine: found by looking, not by having been told. */
import { readFile, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
const LINKS = '/dev/afterimage';
export async function leftovers(directory) {
    const inside = (file) => file.startsWith(`${directory}/`);
    const loops = [];
    const attached = [];
    for (const name of await readdir('/sys/block')) {
        const file = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
        if (file !== '')
            attached.push(`/dev/${name}`);
        if (inside(file))
            loops.push({ device: `/dev/${name}`, file: file.trimEnd() });
    }
    const links = [];
    for (const entry of await readdir(LINKS, { recursive: true, withFileTypes: true }).catch(() => [])) {
        if (!entry.isSymbolicLink())
            continue;
        const link = path.join(entry.parentPath, entry.name);
        const target = await readlink(link).catch(() => '');
        if (!attached.includes(target) || loops.some(({ device }) => device === target))
            links.push(link);
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
/** Every process but this one that names a file of the directory in its command line. */
async function processesOf(directory) {
    const found = [];
    for (const name of await readdir('/proc')) {
        const pid = Number(name);
        if (!(pid > 0) || pid === process.pid)
            continue;
        const words = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => ''))
            .replaceAll('\0', ' ')
            .trim();
        if (words.includes(`${directory}/`))
            found.push({ pid, words });
    }
    return found;
}
//# sourceMappingURL=leftovers.js.map