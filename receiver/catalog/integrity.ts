/** Whether a catalog's file is a whole database of a schema that this program knows. Opens it for writing: give it a copy. */
import Database from 'better-sqlite3';
import { AfterimageError } from '../../proto/errors.js';
import { MIGRATIONS } from './migrations.js';

export interface CatalogIntegrity {
  /** What SQLite finds wrong with the file, at most FAULTS_MAX; empty: nothing. */
  faults: string[];
  /** Rows that refer to one that does not exist: "segments, row 7: no such members". */
  references: string[];
  /** `PRAGMA user_version`. */
  schema: number;
}

/** More of them say nothing more. */
const FAULTS_MAX = 20;

/** Errors: STORE_VERSION when a newer program wrote it. */
export function catalogIntegrity(file: string): CatalogIntegrity {
  let database: Database.Database | null = null;
  try {
    database = new Database(file);
    const schema = Number(database.pragma('user_version', { simple: true }));
    if (schema > MIGRATIONS.length) {
      throw new AfterimageError(
        'STORE_VERSION',
        `the catalog has schema ${schema}, this program knows up to ${MIGRATIONS.length}`,
      );
    }
    const found = database.pragma(`integrity_check(${FAULTS_MAX})`) as { integrity_check: string }[];
    const faults = found.map((row) => row.integrity_check).filter((text) => text !== 'ok');
    const broken = faults.length > 0 ? [] : (database.pragma('foreign_key_check') as Reference[]);
    return { faults, references: broken.slice(0, FAULTS_MAX).map(described), schema };
  } catch (thrown) {
    if (!(thrown instanceof Database.SqliteError)) throw thrown;
    return { faults: [`${thrown.message} (${thrown.code})`], references: [], schema: 0 };
  } finally {
    database?.close();
  }
}

interface Reference {
  table: string;
  /** Null in a table without one. */
  rowid: number | null;
  parent: string;
}

function described({ table, rowid, parent }: Reference): string {
  return `${table}${rowid === null ? '' : `, row ${rowid}`}: it names a row of ${parent} that is not there`;
}
