import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { makeDirectory } from '../../agent/directory.js';
t.test('a new directory is stored in the one above, and so are those above it that are new', async (t) => {
    const root = t.testdir({});
    const synced = [];
    const sync = (directory) => Promise.resolve(void synced.push(directory));
    await makeDirectory(path.join(root, 'a', 'b'), sync);
    t.ok(existsSync(path.join(root, 'a', 'b')));
    t.strictSame(synced, [path.join(root, 'a'), root]);
    await makeDirectory(path.join(root, 'a', 'b'), sync);
    t.equal(synced.length, 2, 'one that is there is left alone');
    await makeDirectory(path.join(root, 'c'));
    t.ok(existsSync(path.join(root, 'c')));
});
t.test('a directory that cannot be made is named', async (t) => {
    const root = t.testdir({ file: '' });
    mkdirSync(path.join(root, 'd'));
    await t.rejects(makeDirectory(path.join(root, 'file', 'x')), {
        code: 'IO_ERROR',
        message: /file\/x cannot be made/,
    });
});
//# sourceMappingURL=directory.test.js.map