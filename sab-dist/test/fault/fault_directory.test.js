/** The fault-injecting directory: what a program does in it is recorded as it was done, and goes wrong as it was told to. */
import Database from 'better-sqlite3';
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rmdir, stat, truncate, unlink, writeFile, } from 'node:fs/promises';
import path from 'node:path';
import t, {} from 'tap';
import { lockFile } from '../../native/index.js';
import { Store } from '../../receiver/store.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from '../scenario/command.js';
import { Scratch } from '../scenario/scratch.js';
import { FaultDirectory } from './fault_directory.js';
const OPTIONS = { skip: skipUnless(isRoot, 'root') };
async function directory(t) {
    const scratch = await Scratch.create('fault');
    t.teardown(() => scratch.clean());
    const recorded = await FaultDirectory.start(scratch, 'disk');
    return { recorded, at: (name) => path.join(recorded.mount, name) };
}
function summary({ kind, path: name, target, offset, length, isDataOnly, error }) {
    const numbers = kind === 'write' || kind === 'fallocate'
        ? ` ${offset}+${length}`
        : kind === 'truncate'
            ? ` ${offset}`
            : '';
    const to = target === '' ? '' : ` ${target}`;
    return `${kind}${isDataOnly ? ' data' : ''} ${name}${to}${numbers}${error === 0 ? '' : ' failed'}`;
}
t.test('every change and every sync is recorded, in order, with its bytes', OPTIONS, async (t) => {
    const { recorded, at } = await directory(t);
    await mkdir(at('a'));
    const file = await open(at('a/one'), 'wx');
    await file.write(Buffer.from('hello'), 0, 5, 100);
    await file.datasync();
    await file.truncate(50);
    await file.sync();
    await file.close();
    await rename(at('a/one'), at('a/two'));
    await link(at('a/two'), at('a/three'));
    const above = await open(at('a'), 'r');
    await above.sync();
    await above.close();
    await unlink(at('a/two'));
    await truncate(at('a/three'), 70);
    await command('fallocate', ['-l', '4096', at('a/three')]);
    await unlink(at('a/three'));
    await rmdir(at('a'));
    const operations = await recorded.operations();
    t.same(operations.map(summary), [
        'mkdir /a',
        'create /a/one',
        'write /a/one 100+5',
        'sync data /a/one',
        'truncate /a/one 50',
        'sync /a/one',
        'rename /a/one /a/two',
        'link /a/two /a/three',
        'syncdir /a',
        'unlink /a/two',
        'truncate /a/three 70',
        'fallocate /a/three 0+4096',
        // By fallocate(1) itself.
        'sync /a/three',
        'unlink /a/three',
        'rmdir /a',
    ]);
    t.equal(operations[2]?.data.toString(), 'hello');
    t.equal(operations[1]?.file, operations[11]?.file, 'one file, whatever its name');
    for (const [index, { begin, end, beginNs, endNs }] of operations.entries()) {
        t.ok(begin < end && beginNs <= endNs);
        t.ok(index === 0 || begin > (operations[index - 1]?.end ?? 0), 'one after the other');
    }
    t.ok((operations[0]?.beginNs ?? 0n) < process.hrtime.bigint(), 'by the clock of this process');
});
t.test('a file that takes the name of another one is another file', OPTIONS, async (t) => {
    const { recorded, at } = await directory(t);
    for (const text of ['old', 'new']) {
        await writeFile(at('x.tmp'), text);
        await rename(at('x.tmp'), at('x'));
    }
    t.equal(await readFile(at('x'), 'utf8'), 'new');
    const created = (await recorded.operations()).filter(({ kind }) => kind === 'create');
    t.equal(new Set(created.map(({ file }) => file)).size, 2);
});
t.test('SQLite works in it as the catalog needs it, and so do locks', OPTIONS, async (t) => {
    const { recorded, at } = await directory(t);
    const database = new Database(at('catalog.sqlite'));
    t.equal(database.pragma('journal_mode = WAL', { simple: true }), 'wal');
    database.pragma('synchronous = FULL');
    database.exec('CREATE TABLE rows (text TEXT)');
    const second = new Database(at('catalog.sqlite'));
    const before = await recorded.moment();
    database.prepare('INSERT INTO rows VALUES (?)').run('x'.repeat(10_000));
    t.equal(second.prepare('SELECT length(text) FROM rows').pluck().get(), 10_000, 'by way of shared memory');
    const operations = (await recorded.operations()).filter(({ begin }) => begin > before);
    const last = operations.filter(({ path: name }) => name === '/catalog.sqlite-wal').at(-1);
    t.equal(last?.kind, 'sync', 'a commit ends with a sync');
    second.close();
    database.close();
    await Store.init(at('store'), '00000000-0000-4000-8000-000000000000');
    const store = await Store.open(at('store'), lockFile);
    await t.rejects(Store.open(at('store'), lockFile), { code: 'STORE_BUSY' });
    store.close();
});
t.test('O_DIRECT is accepted, and large writes arrive whole', OPTIONS, async (t) => {
    const { recorded, at } = await directory(t);
    const source = path.join(recorded.backing, '..', 'source');
    const bytes = randomBytes(3 << 20);
    await writeFile(source, bytes);
    await command('dd', [`if=${source}`, `of=${at('direct')}`, 'bs=1M', 'oflag=direct', 'status=none']);
    t.ok((await readFile(at('direct'))).equals(bytes));
    await command('dd', [`if=${at('direct')}`, `of=${source}`, 'bs=1M', 'iflag=direct', 'status=none']);
    t.ok((await readFile(source)).equals(bytes));
});
t.test('faults strike what they name, as often as they are told to', OPTIONS, async (t) => {
    const { recorded, at } = await directory(t);
    const file = await open(at('victim.seg'), 'w+');
    const other = await open(at('other'), 'w+');
    t.teardown(() => Promise.all([file.close(), other.close()]));
    const write = (bytes) => file.write(Buffer.alloc(bytes, 1), 0, bytes, 0);
    await recorded.add({ op: 'write', path: '*.seg', do: 'fail', errno: 'ENOSPC', after: 1, times: 2 });
    await write(512);
    await t.rejects(write(512), { code: 'ENOSPC' });
    await other.write(Buffer.from('spared'));
    await t.rejects(write(512), { code: 'ENOSPC' });
    await write(512);
    t.match(await recorded.report(), [{ seen: 4, struck: 2 }]);
    await recorded.clear();
    await recorded.add({ op: 'sync', path: '*', do: 'fail', times: 1 });
    await t.rejects(file.sync(), { code: 'EIO' });
    await file.sync();
    await recorded.clear();
    await recorded.add({ op: 'read', path: '*', do: 'fail', times: 1 });
    // What the kernel has in its cache is no read.
    await command('dd', [`if=${at('victim.seg')}`, 'of=/dev/null', 'bs=512', 'iflag=direct'], { accept: [1] });
    t.match(await recorded.report(), [{ struck: 1 }]);
    await recorded.clear();
    await recorded.add({ op: 'write', path: '*', do: 'short', bytes: 100, times: 1 });
    await file.write(Buffer.alloc(512, 2), 0, 512, 0);
    t.same((await recorded.operations()).slice(-2).map(summary), ['write /victim.seg 0+100', 'write /victim.seg 100+412'], 'libuv writes the rest');
    await recorded.clear();
    await file.write(Buffer.alloc(4096, 3), 0, 4096, 0);
    await recorded.add({ op: 'write', path: '*', do: 'torn', bytes: 1024, times: 1 });
    await t.rejects(file.write(Buffer.alloc(4096, 4), 0, 4096, 0), { code: 'EIO' });
    const torn = await readFile(path.join(recorded.backing, 'victim.seg'));
    t.same(Array.from({ length: 8 }, (_, sector) => torn[sector * 512]), [3, 3, 4, 3, 4, 3, 4, 3], 'every second sector has arrived');
    await recorded.clear();
    await recorded.add({ op: 'rename', path: '*', do: 'fail', errno: 'EROFS' });
    await t.rejects(rename(at('other'), at('another')), { code: 'EROFS' });
    await recorded.add({ op: 'fallocate', path: '*', do: 'fail', errno: 'ENOSPC' });
    await command('fallocate', ['-l', '8192', at('other')], { accept: [1] });
    t.equal((await stat(at('other'))).size, 6);
    t.same((await readdir(recorded.mount)).sort(), ['other', 'victim.seg']);
    await t.rejects(recorded.add({ op: 'write', path: '*', do: 'fail', errno: 'ENOENT' }), /not understood/);
});
//# sourceMappingURL=fault_directory.test.js.map