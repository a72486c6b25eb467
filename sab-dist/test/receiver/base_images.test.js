import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { BaseImages } from '../../receiver/base_images.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const run = promisify(execFile);
const MIB = 1024 * 1024;
const skip = skipUnless(isRoot, 'root, for a small file system');
t.test('a store that is full during an initial sync is told as full, with the file', { skip }, async (t) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-base-'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', directory]);
    const file = path.join(directory, 'base.img');
    const bases = new BaseImages(native, { check: () => Promise.resolve() });
    t.teardown(async () => {
        await bases.close();
        await run('umount', [directory]);
        await rmdir(directory);
    });
    await bases.begin(file, BigInt(4 * MIB));
    const piece = (offset) => {
        const data = randomBytes(MIB / 2);
        const raw = { data, rawBytes: data.length, compressed: false, crc32c: native.crc32c(data) };
        return { volume: 0, offset: BigInt(offset), ...raw };
    };
    await bases.write(file, piece(0));
    await t.rejects((async () => {
        for (let offset = MIB; offset < 3 * MIB; offset += MIB / 2)
            await bases.write(file, piece(offset));
    })(), { code: 'JOURNAL_FULL', message: new RegExp(file) });
});
t.test('a base that is copied leaves the room that is kept, and says that the store is full', async (t) => {
    const full = () => Promise.reject(new AfterimageError('JOURNAL_FULL', 'the rest is kept'));
    let isFull = false;
    const bases = new BaseImages(native, { check: () => (isFull ? full() : Promise.resolve()) });
    t.teardown(() => bases.close());
    const file = path.join(t.testdir(), 'base');
    await bases.begin(file, 16n << 20n);
    const data = Buffer.alloc(1 << 20, 7);
    const piece = { volume: 0, rawBytes: data.length, compressed: false, crc32c: native.crc32c(data), data };
    await bases.write(file, { ...piece, offset: 0n });
    isFull = true;
    await t.rejects(async () => {
        for (let offset = 1n << 20n; offset < 16n << 20n; offset += 1n << 20n) {
            await bases.write(file, { ...piece, offset });
        }
    }, { code: 'JOURNAL_FULL' });
});
//# sourceMappingURL=base_images.test.js.map