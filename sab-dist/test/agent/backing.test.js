import { execFile } from 'node:child_process';
import { statSync, symlinkSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { openBacking } from '../../agent/backing.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const run = promisify(execFile);
const volume = (backing) => ({
    name: 'data',
    backing,
    cache: 'buffered',
    attach: { kind: 'loop', threads: 4 },
});
const unopened = () => Promise.reject(new Error('it was opened'));
/** The block device that holds the root file system, if it has a node. */
function rootDevice() {
    const { dev } = statSync('/');
    for (const name of readdirSync('/dev')) {
        const stat = statSync(`/dev/${name}`, { throwIfNoEntry: false });
        if (stat?.isBlockDevice() === true && stat.rdev === dev)
            return `/dev/${name}`;
    }
    return null;
}
const root = rootDevice();
t.test('a backing that holds the state directory is refused before it is touched', 
// Of a container's root it is nobody's fault: left out, and counted as such.
{ skip: root === null ? 'the root file system has no device node' : false }, async (t) => {
    await t.rejects(openBacking(volume(root ?? ''), null, '/', unopened), { code: 'BACKING_ON_ITSELF' });
});
t.test('a backing that is missing, and a state directory that is not', async (t) => {
    const missing = path.join(t.testdir(), 'nothing.img');
    await t.rejects(openBacking(volume(missing), null, '/', unopened), { code: 'BACKING_MISSING' });
});
t.test('a file that is in use as a loop device is refused', { skip: skipUnless(isRoot, 'root') }, async (t) => {
    // The agent's lock does not hold a loop device off: what it wrote was in no record.
    const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    t.teardown(() => run('losetup', ['-d', stdout.trim()]));
    const link = `${file}.link`;
    symlinkSync(file, link);
    await t.rejects(openBacking(volume(link), null, '/', unopened), {
        code: 'BACKING_BUSY',
        message: new RegExp(stdout.trim()),
    });
});
t.test('blocks that no segment can name are refused where the backing is opened', async (t) => {
    // The receiver took them, wrote down the generation, and could never open the journal again.
    const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
    const known = { size: 1n << 20n, blockSize: 4096 };
    for (const wrong of [{ blockSize: 1024 }, { blockSize: 2048 }, { size: 2n ** 49n + 4096n }]) {
        let isClosed = false;
        const close = () => Promise.resolve(void (isClosed = true));
        const device = { ...known, ...wrong, close };
        const opened = openBacking(volume(file), null, '/', () => Promise.resolve(device));
        await t.rejects(opened, { code: 'BACKING_INVALID' });
        t.ok(isClosed);
    }
});
//# sourceMappingURL=backing.test.js.map