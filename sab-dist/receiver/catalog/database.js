/** The SQLite database under the catalog: how it is opened, made durable and brought to the newest schema. */
import Database from 'better-sqlite3';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { MIGRATIONS } from './migrations.js';
/** `PRAGMA synchronous` as a number: 2 is FULL. */
const SYNCHRONOUS_FULL = 2n;
/**
 * Opens (or creates) the database in `file` and migrates it. Integers are read as bigint.
 * Errors: STORE_VERSION when a newer program wrote it, STORE_INVALID when it is not a catalog or is damaged,
 * PERMISSION_DENIED, STORE_BUSY, JOURNAL_FULL, JOURNAL_IO.
 */
export function openDatabase(file, migrations = MIGRATIONS) {
    let database = null;
    try {
        database = new Database(file);
        database.defaultSafeIntegers(true);
        configure(database, file);
        migrate(database, file, migrations);
        return database;
    }
    catch (thrown) {
        database?.close();
        if (!(thrown instanceof Database.SqliteError))
            throw thrown;
        throw new AfterimageError(openingCode(thrown.code), `${file}: ${thrown.message} (${thrown.code})`, {
            cause: thrown,
        });
    }
}
/** STORE_INVALID speaks of what the file holds: one that could not be read is not damaged. */
function openingCode(sqlite) {
    if (/^SQLITE_(CANTOPEN|READONLY|PERM)/.test(sqlite))
        return 'PERMISSION_DENIED';
    if (/^SQLITE_(BUSY|LOCKED)/.test(sqlite))
        return 'STORE_BUSY';
    if (sqlite === 'SQLITE_FULL')
        return 'JOURNAL_FULL';
    return sqlite.startsWith('SQLITE_IOERR') ? 'JOURNAL_IO' : 'STORE_INVALID';
}
function configure(database, file) {
    const mode = database.pragma('journal_mode = WAL', { simple: true });
    // The build's default lets a committed transaction vanish with the power: an epoch, an acknowledged LSN.
    database.pragma('synchronous = FULL');
    database.pragma('foreign_keys = ON');
    const synchronous = database.pragma('synchronous', { simple: true });
    if (mode !== 'wal' || synchronous !== SYNCHRONOUS_FULL) {
        throw new AfterimageError('STORE_INVALID', `${file}: journal mode ${String(mode)}, synchronous ${String(synchronous)}; WAL and FULL are needed`);
    }
}
function migrate(database, file, migrations) {
    const taken = Number(database.pragma('user_version', { simple: true }));
    if (taken > migrations.length) {
        throw new AfterimageError('STORE_VERSION', `${file}: schema ${taken}, this program knows up to ${migrations.length}`);
    }
    for (const [index, step] of migrations.entries()) {
        if (index < taken)
            continue;
        const advance = database.transaction(() => {
            database.exec(step);
            database.pragma(`user_version = ${index + 1}`);
        });
        advance.exclusive();
    }
}
/** What SQLite says where the disk, not this program, is at fault. */
const DISK_FAULTS = /^SQLITE_(IOERR|READONLY|CANTOPEN)/;
/** Anything thrown, as an AfterimageError: what SQLite says of a full or failing disk is no defect of this program. */
export function toCatalogError(thrown) {
    if (!(thrown instanceof Database.SqliteError))
        return toAfterimageError(thrown);
    const isFull = thrown.code === 'SQLITE_FULL';
    if (!isFull && !DISK_FAULTS.test(thrown.code))
        return toAfterimageError(thrown);
    const message = `the catalog: ${thrown.message} (${thrown.code})`;
    return new AfterimageError(isFull ? 'JOURNAL_FULL' : 'JOURNAL_IO', message, { cause: thrown });
}
//# sourceMappingURL=database.js.map