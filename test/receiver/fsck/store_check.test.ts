/** Every kind of fault, made by hand in a store that real sessions filled: what is said of it, and what a repair does. */
import { copyFile, mkdir, readFile, rename, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import { lockFile } from '../../../native/index.js';
import { Store } from '../../../receiver/store.js';
import { endOf, offsetOf } from '../synced_scene.js';
import { BrokenStore, codesOf, filledStore, flip, type FilledStore } from './checked_store.js';

let filled: FilledStore;
t.before(async () => {
  filled = await filledStore(t);
});

interface Case {
  name: string;
  hurt: (store: BrokenStore) => Promise<void> | void;
  /** What a check finds, and with what verdict. */
  codes: string[];
  verdict: string;
  /** What is left after a repair; null: the repair does nothing. */
  after: { verdict: string; codes: string[] } | null;
  /** Whether something is graded damaged then. */
  isDamaged?: boolean;
  /** Nothing can be trusted any more. */
  isLost?: boolean;
}

const firstOf = (store: BrokenStore, index: number): bigint =>
  BigInt(path.basename(store.segment(index), '.seg'));
const KNOWN = { verdict: 'sound', codes: ['DAMAGE_KNOWN'] };
const SOUND = { verdict: 'sound', codes: [] };
const run = (segment: string): string => segment.replace('.seg', '.run');

function database(store: BrokenStore, sql: string): void {
  const opened = new Database(path.join(store.directory, 'catalog.sqlite'));
  opened.exec(sql);
  opened.close();
}

const CASES: Case[] = [
  {
    name: 'a bit flipped in the header of a segment',
    hurt: (store) => flip(store.segment(1), 70),
    codes: ['SEGMENT_DAMAGED'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a bit flipped in the header of a frame',
    hurt: async (store) =>
      flip(store.segment(1), offsetOf(await readFile(store.segment(1)), firstOf(store, 1)) + 90),
    codes: ['SEGMENT_DAMAGED'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a bit flipped in a payload, which no start of the receiver reads any more',
    hurt: (store) => flip(store.segment(1), 3_000_000),
    codes: ['SEGMENT_DAMAGED'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a segment cut short',
    hurt: (store) => truncate(store.segment(0), 2_000_000),
    codes: ['SEGMENT_DAMAGED'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'the last segment cut short, below what was acknowledged',
    hurt: (store) => truncate(store.segment(-1), 4096),
    codes: ['SEGMENT_DAMAGED'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a segment in the middle is gone',
    hurt: async (store) => {
      await unlink(store.segment(1));
      await unlink(run(store.segment(1)));
    },
    codes: ['SEGMENT_MISSING'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'the first segment is gone, and the catalog has forgotten it',
    hurt: async (store) => {
      await unlink(store.segment(0));
      await unlink(run(store.segment(0)));
      database(store, 'DELETE FROM segments WHERE first_lsn = 1');
    },
    codes: ['SEGMENT_MISSING'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
    isLost: true,
  },
  {
    name: 'the last segment is gone',
    hurt: (store) => unlink(store.segment(-1)),
    codes: ['SEGMENT_MISSING'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'what was acknowledged last is in no segment, and no row names it',
    hurt: async (store) => {
      await unlink(store.segment(-1));
      database(store, `DELETE FROM segments WHERE first_lsn = ${firstOf(store, -1)}`);
    },
    codes: ['RECORDS_MISSING'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a segment of another member in the place of one',
    hurt: async (store) => {
      const bytes = await readFile(store.segment(1));
      bytes.writeUInt8(bytes.readUInt8(40) ^ 1, 40);
      const { crc32c } = await import('../../../native/index.js');
      bytes.writeUInt32LE(crc32c(bytes.subarray(0, 4092)), 4092);
      await writeFile(store.segment(1), bytes);
    },
    codes: ['SEGMENT_FOREIGN'],
    verdict: 'damaged',
    after: KNOWN,
    isDamaged: true,
  },
  {
    name: 'a run is missing that the catalog speaks of',
    hurt: (store) => unlink(run(store.segment(0))),
    codes: ['RUN_MISSING'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a run of another segment',
    hurt: (store) => copyFile(run(store.segment(1)), run(store.segment(0))),
    codes: ['RUN_WRONG'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a bit flipped in a page of a run',
    hurt: async (store) => {
      const file = run(store.segment(0));
      await flip(file, (await stat(file)).size - 4000);
    },
    codes: ['RUN_WRONG'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a base that is shorter than its volume',
    hurt: (store) => truncate(store.base, 3_000_000),
    codes: ['BASE_SHORT'],
    verdict: 'damaged',
    after: { verdict: 'sound', codes: ['BASE_DAMAGE_KNOWN'] },
    isDamaged: true,
    isLost: true,
  },
  {
    name: 'a base that is shorter, and was never summed',
    hurt: async (store) => {
      await truncate(store.base, 3_000_000);
      await unlink(store.base.replace('.img', '.sum'));
    },
    codes: ['BASE_SHORT', 'BASE_UNSUMMED'],
    verdict: 'damaged',
    after: { verdict: 'sound', codes: ['BASE_DAMAGE_KNOWN'] },
    isDamaged: true,
    isLost: true,
  },
  {
    name: 'a base that is gone',
    hurt: (store) => unlink(store.base),
    codes: ['BASE_LOST'],
    verdict: 'damaged',
    after: { verdict: 'sound', codes: ['BASE_DAMAGE_KNOWN'] },
    isDamaged: true,
    isLost: true,
  },
  {
    name: 'a block of a base that every point needs',
    hurt: (store) => flip(store.base, 4_000_000),
    codes: ['BASE_BLOCK'],
    verdict: 'damaged',
    after: { verdict: 'sound', codes: ['BASE_DAMAGE_KNOWN'] },
    isDamaged: true,
    isLost: true,
  },
  {
    name: 'a block of a base that was written over',
    hurt: (store) => flip(store.base, 1_000_000),
    codes: ['BASE_BLOCK'],
    verdict: 'damaged',
    after: { verdict: 'sound', codes: ['BASE_DAMAGE_KNOWN'] },
    isDamaged: true,
  },
  {
    name: 'a base without checksums, as an older program wrote it',
    hurt: (store) => unlink(store.base.replace('.img', '.sum')),
    codes: ['BASE_UNSUMMED'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'checksums of a base that are damaged themselves',
    hurt: (store) => flip(store.base.replace('.img', '.sum'), 600),
    codes: ['BASE_UNSUMMED'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a base that is longer than its volume',
    hurt: (store) => truncate(store.base, 5_000_000),
    codes: ['BASE_LONG'],
    verdict: 'sound',
    after: null,
  },
  {
    name: 'files that are no part of it',
    hurt: async (store) => {
      await writeFile(`${store.segment(0)}.tmp`, 'half');
      await writeFile(store.journalFile('00000000000000999999.run'), 'of nothing');
      await writeFile(store.journalFile('notes.txt'), 'mine');
      await rename(`${store.segment(0)}.tmp`, `${run(store.segment(0))}.tmp`);
    },
    codes: ['LEFTOVER', 'RUN_ORPHAN', 'FILE_UNKNOWN'],
    verdict: 'repairable',
    after: { verdict: 'sound', codes: ['FILE_UNKNOWN'] },
  },
  {
    name: 'a segment that was being created when the power went',
    hurt: (store) => writeFile(store.journalFile('00000000000000900000.seg'), Buffer.alloc(9000)),
    codes: ['SEGMENT_ABANDONED'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a torn tail: what was never acknowledged',
    hurt: async (store) => {
      const bytes = await readFile(store.segment(-1));
      const torn = Buffer.concat([bytes.subarray(4096, 4096 + 100), Buffer.alloc(500, 7)]);
      torn.copy(bytes, endOf(bytes));
      await writeFile(store.segment(-1), bytes);
    },
    codes: ['TAIL_TORN'],
    verdict: 'sound',
    after: null,
  },
  {
    name: 'a catalog that is behind, as after a crash',
    hurt: (store) =>
      database(
        store,
        `UPDATE segments SET sealed = 0, has_run = 0, last_lsn = last_lsn - 2 WHERE first_lsn = ${firstOf(store, 1)}`,
      ),
    codes: ['CATALOG_BEHIND'],
    verdict: 'sound',
    after: SOUND,
  },
  {
    name: 'a row that says something else than its file',
    hurt: (store) => database(store, 'UPDATE segments SET link = link + 1 WHERE first_lsn = 1'),
    codes: ['CATALOG_ROW'],
    verdict: 'repairable',
    after: SOUND,
  },
  {
    name: 'a checkpoint outside of the history, and a time era that is not known',
    hurt: (store) =>
      database(
        store,
        `INSERT INTO checkpoints SELECT group_uuid, 'far', uuid, 1000000, 1, 'crash', 0, 0 FROM members;
         UPDATE eras SET era = 7, first_lsn = 100`,
      ),
    codes: ['ERA_MISSING', 'CHECKPOINT_OUTSIDE'],
    verdict: 'repairable',
    after: { verdict: 'sound', codes: ['CHECKPOINT_OUTSIDE'] },
  },
  {
    name: 'a base that ends in the middle of a segment',
    hurt: (store) => database(store, 'UPDATE volumes SET base_lsn = 3'),
    codes: ['BASE_LSN'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a catalog that is older than the journal',
    hurt: (store) =>
      database(
        store,
        'PRAGMA foreign_keys = OFF; UPDATE generation_volumes SET generation = 0; UPDATE generations SET generation = 0',
      ),
    codes: ['GENERATION_UNKNOWN', 'GENERATION_UNKNOWN', 'GENERATION_UNKNOWN', 'GENERATION_UNKNOWN'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a member that the catalog does not know',
    hurt: (store) =>
      mkdir(path.join(store.directory, 'groups', 'ab', 'cd'), { recursive: true }).then(() => undefined),
    codes: ['MEMBER_UNKNOWN'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a row of no member',
    hurt: (store) =>
      database(
        store,
        `PRAGMA foreign_keys = OFF; UPDATE damage SET member = 'x'; INSERT INTO eras VALUES ('nobody', 9, 1, 1, 1)`,
      ),
    codes: ['CATALOG_REFERENCE'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a catalog of which a page is damaged',
    hurt: async (store) => {
      const file = path.join(store.directory, 'catalog.sqlite');
      const bytes = await readFile(file);
      bytes.fill(0xee, 8192, 8192 + 3000);
      await writeFile(file, bytes);
    },
    codes: ['CATALOG_CORRUPT'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a catalog that is none',
    hurt: (store) =>
      writeFile(path.join(store.directory, 'catalog.sqlite'), 'this is no database, whatever its name'),
    codes: ['CATALOG_CORRUPT'],
    verdict: 'damaged',
    after: null,
  },
  {
    name: 'a catalog that is gone',
    hurt: (store) => unlink(path.join(store.directory, 'catalog.sqlite')),
    codes: ['CATALOG_MISSING'],
    verdict: 'damaged',
    after: null,
  },
];

t.test('a store that is as it was left', async (t) => {
  const store = await BrokenStore.of(t, filled);
  const before = await store.files();
  const report = await store.check();
  t.match(report, { verdict: 'sound', segments: 4, findings: [] });
  t.ok(report.bytesRead > 12_000_000n);
  t.same(await store.files(), before, 'not a file is made or changed');
  const grades = await store.judge(t);
  t.match(grades.join(), /ordered/);
});

for (const { name, hurt, codes, verdict, after, isDamaged = false, isLost = false } of CASES) {
  t.test(name, async (t: Test) => {
    const store = await BrokenStore.of(t, filled);
    await hurt(store);
    const before = await store.files();
    const report = await store.check();
    t.same([...new Set(codesOf(report))], [...new Set(codes)], JSON.stringify(report.findings, printable));
    t.equal(report.verdict, verdict);
    t.same(await store.files(), before, 'a check writes nothing');
    if (after === null) {
      await store.check(true);
      t.same(codesOf(await store.check()), codesOf(report), 'a repair leaves it as it is');
      return;
    }
    const repaired = await store.check(true);
    t.equal(repaired.verdict, verdict === 'damaged' ? 'damaged' : 'repaired', 'what is lost stays lost');
    const again = await store.check();
    t.match([again.verdict, codesOf(again)], [after.verdict, after.codes]);
    const grades = await store.judge(t);
    t.equal(
      grades.some((grade) => grade.startsWith('damaged')),
      isDamaged,
      grades.join(),
    );
    t.equal(
      grades.some((grade) => grade.startsWith('ordered')),
      !isLost,
    );
  });
}

t.test('a store that a receiver runs on is not checked', async (t) => {
  const store = await BrokenStore.of(t, filled);
  await store.receiver.run();
  await t.rejects(store.check(), { code: 'STORE_BUSY' });
  await store.receiver.stop();
  const held = await Store.open(store.directory, lockFile);
  await t.rejects(store.check(), { code: 'STORE_BUSY' }, 'nor one that is being checked');
  held.close();
});

t.test('a store of a newer program is not checked', async (t) => {
  const store = await BrokenStore.of(t, filled);
  database(store, 'PRAGMA user_version = 99');
  await t.rejects(store.check(), { code: 'STORE_VERSION' });
  const segment = await BrokenStore.of(t, filled);
  const bytes = await readFile(segment.segment(0));
  bytes.writeUInt16LE(9, 8);
  const { crc32c } = await import('../../../native/index.js');
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 4092)), 4092);
  await writeFile(segment.segment(0), bytes);
  const report = await segment.check();
  t.match([report.verdict, codesOf(report)], ['unchecked', ['MEMBER_UNCHECKED']]);
});

t.test(
  'what a killed receiver left in the write-ahead log of its catalog is read, and stays there',
  async (t) => {
    const store = await BrokenStore.of(t, filled);
    const live = new Database(path.join(store.directory, 'catalog.sqlite'));
    live.exec('UPDATE segments SET link = link + 1 WHERE first_lsn = 1');
    const wal = path.join(store.directory, 'catalog.sqlite-wal');
    const kept = path.join(store.receiver.directory, 'wal');
    await copyFile(wal, kept);
    const image = await readFile(path.join(store.directory, 'catalog.sqlite'));
    live.close();
    await writeFile(path.join(store.directory, 'catalog.sqlite'), image);
    await copyFile(kept, wal);
    await rm(path.join(store.directory, 'catalog.sqlite-shm'), { force: true });
    const before = await store.files();
    t.same(codesOf(await store.check()), ['CATALOG_ROW']);
    t.same(await store.files(), before);
  },
);

t.test('a store that no receiver ever ran on', async (t) => {
  const store = await BrokenStore.of(t, filled);
  await rm(store.directory, { recursive: true });
  await Store.init(store.directory, '00000000-0000-4000-8000-000000000000');
  t.match(await store.check(), { verdict: 'sound', findings: [] });
});

function printable(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
