import Database from 'better-sqlite3';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rm } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { Catalog } from '../../../receiver/catalog/catalog.js';
import { openDatabase } from '../../../receiver/catalog/database.js';
import { MIGRATIONS } from '../../../receiver/catalog/migrations.js';

async function directory(test: Test): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'afterimage-catalog-'));
  test.teardown(() => rm(made, { recursive: true, force: true }));
  return made;
}

t.test('a new catalog is durable by itself: WAL, synchronous FULL, foreign keys', async (t) => {
  const database = openDatabase(path.join(await directory(t), 'catalog.sqlite'));
  t.equal(database.pragma('journal_mode', { simple: true }), 'wal');
  t.equal(database.pragma('synchronous', { simple: true }), 2n);
  t.equal(database.pragma('foreign_keys', { simple: true }), 1n);
  t.equal(database.pragma('user_version', { simple: true }), BigInt(MIGRATIONS.length));
  database.close();
});

t.test('a step that is added later is taken once, over what is there', async (t) => {
  const file = path.join(await directory(t), 'catalog.sqlite');
  openDatabase(file).close();
  const more = [...MIGRATIONS, 'CREATE TABLE later (x INTEGER); INSERT INTO later VALUES (7)'];
  openDatabase(file, more).close();
  const database = openDatabase(file, more);
  t.same(database.prepare('SELECT x FROM later').pluck().all(), [7n]);
  database.close();
});

t.test('a step that fails leaves the schema as it was', async (t) => {
  const file = path.join(await directory(t), 'catalog.sqlite');
  openDatabase(file).close();
  t.throws(() => openDatabase(file, [...MIGRATIONS, 'CREATE TABLE half (x); NONSENSE']), {
    code: 'STORE_INVALID',
  });
  const database = new Database(file);
  t.equal(database.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'half'").pluck().get(), 0);
  t.equal(database.pragma('user_version', { simple: true }), MIGRATIONS.length);
  database.close();
});

t.test('a catalog of a newer program is refused', async (t) => {
  const file = path.join(await directory(t), 'catalog.sqlite');
  openDatabase(file, [...MIGRATIONS, 'CREATE TABLE newer (x)']).close();
  t.throws(() => openDatabase(file), { code: 'STORE_VERSION' });
});

t.test('a file that is no catalog is refused', async (t) => {
  const file = path.join(await directory(t), 'catalog.sqlite');
  await writeFile(file, 'this is a letter, not a database, and a long one at that '.repeat(100));
  t.throws(() => openDatabase(file), { code: 'STORE_INVALID' });
});

t.test('LSNs beyond 2^53 come back as they were', async (t) => {
  const catalog = Catalog.open(path.join(await directory(t), 'catalog.sqlite'));
  const lsn = 2n ** 62n + 1n;
  catalog.members.addGroup({ uuid: 'g', name: 'db' });
  catalog.members.putMember({
    uuid: 'm',
    group: 'g',
    host: 'h',
    epoch: lsn,
    instance: Buffer.alloc(16),
    ackedLsn: 0n,
    coveredTimeNs: 0n,
  });
  catalog.members.advance('m', lsn, lsn + 2n);
  t.match(catalog.members.member('m'), { epoch: lsn, ackedLsn: lsn, coveredTimeNs: lsn + 2n });
  catalog.members.advance('m', 5n, 5n);
  t.match(catalog.members.member('m'), { ackedLsn: lsn }, 'what was acknowledged never falls');
  catalog.close();
});
