import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import t, {} from 'tap';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { serveDevices } from '../../receiver/serving.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const device = { size: 4096n, blockSize: 512, readOnly: true };
const run = promisify(execFile);
const skip = skipUnless(isRoot, 'root, for loop devices');
/** Two volumes of 4 MiB as devices. */
async function served(test) {
    const runDir = test.testdir();
    const open = async (name) => {
        const file = path.join(runDir, `${name}.img`);
        await writeFile(file, Buffer.alloc(4 << 20, name));
        return native.openFileDevice({ path: file, cache: 'buffered', readOnly: true, exclusive: false });
    };
    const volumes = [
        { name: 'data', device: await open('data') },
        { name: 'log', device: await open('log') },
    ];
    const serving = await serveDevices(native, path.join(runDir, 'export-1'), volumes);
    test.teardown(async () => {
        await serving.stop().catch(() => undefined);
        for (const { device } of volumes)
            await device.close();
    });
    const [data = '', log = ''] = serving.volumes.map(({ device }) => device);
    return { runDir, serving, data, log };
}
t.test('a device that somebody else detached is not in the way, and no stranger is detached', { skip }, async (t) => {
    // After `umount -d` the export could not be closed any more, or it took away whoever had the number now.
    const { runDir, serving, data } = await served(t);
    await run('losetup', ['-d', data]);
    const foreign = path.join(runDir, 'foreign');
    await writeFile(foreign, Buffer.alloc(1 << 20));
    await run('losetup', [data, foreign]);
    t.teardown(() => run('losetup', ['-d', data]));
    await serving.stop();
    t.match((await run('losetup', [data])).stdout, /foreign/);
    t.notOk((await readdir(runDir)).includes('export-1'));
});
t.test('a volume in use keeps the others of its export', { skip }, async (t) => {
    const { serving, data, log } = await served(t);
    const claim = await open(log, constants.O_RDONLY | constants.O_EXCL);
    await t.rejects(serving.stop(), { code: 'EXPORT_BUSY', message: /log/ });
    t.equal((await readFile(data)).length, 4 << 20, 'the one before it still serves');
    await claim.close();
    await serving.stop();
});
t.test('without root a device export says why, and leaves nothing behind', async (t) => {
    // The mount point that was made before hid the reason behind ENOTEMPTY, and stayed.
    const runDir = t.testdir();
    const refused = () => Promise.reject(new AfterimageError('FUSE_UNAVAILABLE', 'mount: not permitted'));
    const parts = { startFuseServer: refused };
    const serving = serveDevices(parts, path.join(runDir, 'export-1'), [{ name: 'data', device }]);
    await t.rejects(serving, { code: 'FUSE_UNAVAILABLE' });
    t.same(await readdir(runDir), []);
});
//# sourceMappingURL=serving.test.js.map