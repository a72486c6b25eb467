import path from 'node:path';
import t from 'tap';
import { openDatabase, toCatalogError } from '../../../receiver/catalog/database.js';
t.test('a full disk under the catalog is told as what it is, not as a defect', (t) => {
    const database = openDatabase(path.join(t.testdir(), 'catalog.sqlite'));
    t.teardown(() => database.close());
    database.exec('CREATE TABLE filler (bytes BLOB)');
    const pages = Number(database.pragma('page_count', { simple: true }));
    database.pragma(`max_page_count = ${pages}`);
    try {
        database.prepare('INSERT INTO filler VALUES (zeroblob(1000000))').run();
        t.fail('there was room');
    }
    catch (thrown) {
        t.match(toCatalogError(thrown), { code: 'JOURNAL_FULL', message: /SQLITE_FULL/ });
    }
    t.match(toCatalogError(new Error('other')), { code: 'INTERNAL' });
    t.end();
});
//# sourceMappingURL=database.test.js.map