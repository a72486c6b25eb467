/**
 * The catalog as a check reads it: a private copy, since even a reader of an SQLite database in WAL mode writes beside
 * it. Whoever makes one holds the store's lock.
 */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { named } from '../../service/system_errors.js';
export class CatalogCopy {
    directory;
    file;
    constructor(directory, file) {
        this.directory = directory;
        this.file = file;
    }
    /** Null: there is no catalog. Errors: PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
    static async of(catalogFile) {
        const directory = await named(mkdtemp(path.join(tmpdir(), 'afterimage-fsck-')), tmpdir());
        const copy = new CatalogCopy(directory, path.join(directory, 'catalog.sqlite'));
        try {
            if (!(await copied(catalogFile, copy.file))) {
                await copy.remove();
                return null;
            }
            // What a receiver that was killed had committed last.
            await copied(`${catalogFile}-wal`, `${copy.file}-wal`);
            return copy;
        }
        catch (thrown) {
            await copy.remove();
            throw thrown;
        }
    }
    async remove() {
        await rm(this.directory, { recursive: true, force: true });
    }
}
/** Whether there is such a file. */
async function copied(from, to) {
    try {
        await named(copyFile(from, to), from);
        return true;
    }
    catch (thrown) {
        if (thrown.cause?.code === 'ENOENT')
            return false;
        throw thrown;
    }
}
//# sourceMappingURL=catalog_copy.js.map