/** Whether a catalog's file is a whole database of a schema that this program knows. Opens it for writing: give it a copy. */
import Database from 'better-sqlite3';
import { AfterimageError } from '../../proto/errors.js';
import { MIGRATIONS } from './migrations.js';
/** More of them say nothing more. */
const FAULTS_MAX = 20;
/** Errors: STORE_VERSION when a newer program wrote it. */
export function catalogIntegrity(file) {
    let database = null;
    try {
        database = new Database(file);
        const schema = Number(database.pragma('user_version', { simple: true }));
        if (schema > MIGRATIONS.length) {
            throw new AfterimageError('STORE_VERSION', `the catalog has schema ${schema}, this program knows up to ${MIGRATIONS.length}`);
        }
        const found = database.pragma(`integrity_check(${FAULTS_MAX})`);
        const faults = found.map((row) => row.integrity_check).filter((text) => text !== 'ok');
        const broken = faults.length > 0 ? [] : database.pragma('foreign_key_check');
        return { faults, references: broken.slice(0, FAULTS_MAX).map(described), schema };
    }
    catch (thrown) {
        if (!(thrown instanceof Database.SqliteError))
            throw thrown;
        return { faults: [`${thrown.message} (${thrown.code})`], references: [], schema: 0 };
    }
    finally {
        database?.close();
    }
}
function described({ table, rowid, parent }) {
    return `${table}${rowid === null ? '' : `, row ${rowid}`}: it names a row of ${parent} that is not there`;
}
//# sourceMappingURL=integrity.js.map