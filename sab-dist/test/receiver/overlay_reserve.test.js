import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rmdir, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import * as native from '../../native/index.js';
import { exportOf, synced } from './synced_scene.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const run = promisify(execFile);
const MIB = 1 << 20;
const skip = skipUnless(isRoot, 'root, for a small file system');
t.test('an export that is written to without end leaves the journal some room', { skip }, async (t) => {
    // It took the last byte of the store, and ingest was refused until somebody closed it.
    const small = await mkdtemp(path.join(tmpdir(), 'afterimage-scratch-'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'none', small]);
    const opened = [];
    t.teardown(async () => {
        for (const device of opened)
            await device.close();
        await run('umount', [small]);
        await rmdir(small);
    });
    const file = path.join(t.testdir(), 'lower');
    await writeFile(file, Buffer.alloc(128 * MIB));
    const options = { path: file, cache: 'buffered', readOnly: true, exclusive: false };
    const lower = await native.openFileDevice(options);
    opened.unshift(lower);
    const overlay = await native.openOverlay(lower, small);
    opened.unshift(overlay);
    const write = async (from, to) => {
        for (let at = from; at < to; at += MIB)
            await overlay.write(BigInt(at), randomBytes(MIB));
    };
    await t.rejects(write(0, 128 * MIB), { code: 'IO_ERROR', message: /No space left/ });
    const { bavail, bsize } = await statfs(small);
    t.ok(bavail * bsize >= 12 * MIB, `${bavail * bsize} bytes are left`);
    t.ok(bavail * bsize < 24 * MIB, 'and not more than has to be');
    await t.rejects(write(127 * MIB, 128 * MIB), { message: /No space left/ }, 'nor does the next one get in');
    await overlay.zero(0n, BigInt(32 * MIB));
    await write(120 * MIB, 124 * MIB);
});
t.test('overlays lie where the configuration says', async (t) => {
    const { receiver, stream } = await synced(t);
    stream.close();
    await receiver.stop();
    const scratch = path.join(receiver.directory, 'elsewhere');
    await receiver.run(`scratch_dir = "${scratch}"`);
    const request = { ...exportOf('latest'), writable: true };
    await t.rejects(receiver.call('exportOpen', request), {
        code: 'SCRATCH_UNAVAILABLE',
        message: /elsewhere/,
    });
    await mkdir(scratch);
    const { id } = await receiver.call('exportOpen', request);
    await receiver.call('exportClose', { id });
});
//# sourceMappingURL=overlay_reserve.test.js.map