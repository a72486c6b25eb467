import path from 'node:path';
import t from 'tap';
import { DamageTable } from '../../../receiver/catalog/damage.js';
import { openDatabase, toCatalogError } from '../../../receiver/catalog/database.js';
import { MIGRATIONS } from '../../../receiver/catalog/migrations.js';

t.test('a full disk under the catalog is told as what it is, not as a defect', (t) => {
  const database = openDatabase(path.join(t.testdir(), 'catalog.sqlite'));
  t.teardown(() => database.close());
  database.exec('CREATE TABLE filler (bytes BLOB)');
  const pages = Number(database.pragma('page_count', { simple: true }));
  database.pragma(`max_page_count = ${pages}`);
  try {
    database.prepare('INSERT INTO filler VALUES (zeroblob(1000000))').run();
    t.fail('there was room');
  } catch (thrown) {
    t.match(toCatalogError(thrown), { code: 'JOURNAL_FULL', message: /SQLITE_FULL/ });
  }
  t.match(toCatalogError(new Error('other')), { code: 'INTERNAL' });
  t.end();
});

t.test('damage of a store from before its end was known lasts to the end of its generation', (t) => {
  const file = path.join(t.testdir(), 'catalog.sqlite');
  const before = openDatabase(file, MIGRATIONS.slice(0, 6));
  before.exec(`
    INSERT INTO groups VALUES ('g', 'db');
    INSERT INTO members (uuid, group_uuid, host, epoch, instance, acked_lsn, covered_time_ns)
      VALUES ('m', 'g', 'host1', 1, x'00', 9, 0);
    INSERT INTO damage VALUES ('m', 5, 7, 2, 'bad CRC')`);
  before.close();
  const database = openDatabase(file);
  t.teardown(() => database.close());
  const table = new DamageTable(database);
  const old = { member: 'm', firstLsn: 5n, lastLsn: 7n, foundGeneration: 2n, reason: 'bad CRC' };
  t.same(table.damage('m'), [{ ...old, touchedLsn: null, touchedTimeNs: null }]);
  const exact = { ...old, firstLsn: 20n, lastLsn: 21n, touchedLsn: 40n, touchedTimeNs: 400n };
  table.add(exact);
  table.deleteBefore('m', 40n, 2n);
  t.equal(table.damage('m').length, 2, 'both touch the oldest instant');
  table.deleteBefore('m', 41n, 2n);
  t.match(table.damage('m'), [{ firstLsn: 5n }]);
  table.deleteBefore('m', 41n, 3n);
  t.same(table.damage('m'), []);
  t.end();
});
