import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import t, {} from 'tap';
import { lockFile } from '../../native/index.js';
import { Store, segmentFirstLsn, segmentName } from '../../receiver/store.js';
async function scratch(test) {
    const made = await mkdtemp(path.join(tmpdir(), 'afterimage-store-'));
    test.teardown(() => rm(made, { recursive: true, force: true }));
    return path.join(made, 'store');
}
t.test('a new store belongs to its owner alone', async (t) => {
    const directory = await scratch(t);
    const uuid = randomUUID();
    await Store.init(directory, uuid);
    t.equal((await stat(directory)).mode & 0o777, 0o700);
    t.same(JSON.parse(await readFile(path.join(directory, 'store.json'), 'utf8')), { uuid, version: 1 });
});
t.test('a directory that holds something is not made a store', async (t) => {
    const directory = await scratch(t);
    await Store.init(directory, randomUUID());
    await t.rejects(Store.init(directory, randomUUID()), { code: 'STORE_EXISTS' });
    await t.rejects(Store.init(path.dirname(directory), randomUUID()), { code: 'STORE_EXISTS' });
    const file = path.join(directory, 'store.json');
    for (const place of [file, path.join(file, 'below')]) {
        await t.rejects(Store.init(place, randomUUID()), { code: 'STORE_EXISTS', message: /in the way/ });
    }
});
t.test('two receivers on one store: the second is refused until the first is gone', async (t) => {
    const directory = await scratch(t);
    await Store.init(directory, randomUUID());
    const first = await Store.open(directory, lockFile);
    await t.rejects(Store.open(directory, lockFile), { code: 'STORE_BUSY' });
    first.close();
    (await Store.open(directory, lockFile)).close();
});
t.test('what is no store of this version', async (t) => {
    const directory = await scratch(t);
    await t.rejects(Store.open(directory, lockFile), { code: 'STORE_MISSING' });
    await Store.init(directory, randomUUID());
    const file = path.join(directory, 'store.json');
    await chmod(file, 0o600);
    await writeFile(file, JSON.stringify({ uuid: randomUUID(), version: 2 }));
    await t.rejects(Store.open(directory, lockFile), { code: 'STORE_VERSION' });
    await writeFile(file, '{"uuid":"x"}');
    await t.rejects(Store.open(directory, lockFile), { code: 'STORE_INVALID' });
    await writeFile(file, 'no JSON');
    await t.rejects(Store.open(directory, lockFile), { code: 'STORE_INVALID' });
});
t.test('names of segments sort as their LSNs do', (t) => {
    const names = [1n, 9n, 10n, 2n ** 63n].map(segmentName);
    t.same([...names].sort(), names);
    t.equal(segmentFirstLsn(segmentName(2n ** 63n)), 2n ** 63n);
    t.equal(segmentFirstLsn('00000000000000000001.run'), null);
    t.equal(segmentFirstLsn('1.seg'), null);
    t.end();
});
//# sourceMappingURL=store.test.js.map