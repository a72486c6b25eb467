/**
 * `afterimage receiver fsck`: checks a store that no receiver runs on, and explains what it finds. Reads only, the catalog
 * from a copy, until it is told to repair; a repair does what the next start of the receiver would do, without trusting
 * a segment for its size, and removes what means nothing. Nothing that it does can lose history.
 */
import { readdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { syncDirectory } from '../../service/durable_file.js';
import { Pace } from '../../service/pace.js';
import { named } from '../../service/system_errors.js';
import { Catalog } from '../catalog/catalog.js';
import { toCatalogError } from '../catalog/database.js';
import { catalogIntegrity } from '../catalog/integrity.js';
import { MIGRATIONS } from '../catalog/migrations.js';
import { clearTheWay, reconcile } from '../journal/opening.js';
import { runFile, Store } from '../store.js';
import { checkBase, repairBase, } from './base_check.js';
import { CatalogCopy } from './catalog_copy.js';
import { checkFiles } from './files_check.js';
import { finding, NOWHERE } from './finding.js';
import { checkCheckpoints, checkEras } from './history_check.js';
import { checkJournal } from './journal_check.js';
const REMOVED = ['LEFTOVER', 'RUN_ORPHAN'];
const BUILT = ['RUN_MISSING', 'RUN_PENDING', 'RUN_WRONG'];
/** Set right by what the next start would do. */
const RECONCILED = [
    ...[
        'SEGMENT_MISSING',
        'SEGMENT_DAMAGED',
        'SEGMENT_UNREADABLE',
        'SEGMENT_FOREIGN',
        'SEGMENT_LINK',
    ],
    ...['RECORDS_MISSING', 'SEGMENT_ABANDONED', 'SEGMENT_STRAY'],
    ...['CATALOG_ROW', 'CATALOG_BEHIND', 'ERA_MISSING'],
];
/** Marked, recorded, or given checksums (base_check.ts). */
const OF_BASES = ['BASE_LOST', 'BASE_SHORT', 'BASE_BLOCK', 'BASE_UNSUMMED'];
/** A store with one of these is not touched. */
const UNSAFE = ['CATALOG_MISSING', 'CATALOG_CORRUPT', 'CATALOG_REFERENCE'];
export class StoreCheck {
    parts;
    store;
    findings = [];
    checked = [];
    bytesTotal = 0n;
    bytesDone = 0n;
    segments = 0;
    file = '';
    pace;
    constructor(parts, store) {
        this.parts = parts;
        this.store = store;
        this.pace = new Pace(parts.rate, parts);
    }
    /** Takes the store's lock. Errors: STORE_MISSING, STORE_INVALID, STORE_VERSION, STORE_BUSY, PERMISSION_DENIED. */
    static async open(parts, directory) {
        return new StoreCheck(parts, await Store.open(directory, parts.native.lockFile));
    }
    close() {
        this.store.close();
    }
    /** Once. Errors: STORE_VERSION, INTERRUPTED, PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
    async check() {
        this.bytesTotal = await bytesBelow(path.join(this.store.directory, 'groups'));
        const copy = await CatalogCopy.of(this.store.catalogFile);
        try {
            const catalog = copy === null ? this.withoutCatalog() : this.openCatalog(copy.file);
            try {
                if (catalog !== null)
                    await this.checkMembers(catalog);
                this.findings.push(...(await checkFiles(this.store, catalog)));
            }
            catch (thrown) {
                // What SQLite says where its own check found the file whole.
                throw toCatalogError(thrown);
            }
            finally {
                catalog?.close();
            }
        }
        finally {
            await copy?.remove();
        }
        return this.report();
    }
    /** Whether repair() would do anything. */
    get isRepairable() {
        return !this.isUnsafe && this.findings.some((one) => this.isMended(one));
    }
    /** After check(). Errors: JOURNAL_FULL, JOURNAL_IO, IO_ERROR, PERMISSION_DENIED. */
    async repair() {
        if (!this.isRepairable)
            return this.report();
        // Without a member there may be no catalog either, and none is to be made.
        if (this.checked.length > 0)
            await this.repairMembers();
        for (const one of this.findings.filter(({ code }) => REMOVED.includes(code))) {
            await named(unlink(one.subject), one.subject);
            await syncDirectory(path.dirname(one.subject));
            one.repaired = true;
        }
        return this.report();
    }
    withoutCatalog() {
        // A receiver that never ran has none.
        if (this.bytesTotal > 0n)
            this.add('CATALOG_MISSING', this.store.catalogFile, 'it is not there');
        return null;
    }
    openCatalog(file) {
        const { faults, references, schema } = catalogIntegrity(file);
        for (const fault of faults)
            this.add('CATALOG_CORRUPT', this.store.catalogFile, fault);
        for (const text of references)
            this.add('CATALOG_REFERENCE', this.store.catalogFile, text);
        if (faults.length > 0)
            return null;
        if (schema < MIGRATIONS.length) {
            this.add('CATALOG_SCHEMA', this.store.catalogFile, `schema ${schema}; this program's is ${MIGRATIONS.length}`);
        }
        return Catalog.open(file);
    }
    async checkMembers(catalog) {
        for (const group of catalog.members.groups()) {
            for (const member of catalog.members.members(group.uuid)) {
                const place = { group: group.name, host: member.host };
                try {
                    await this.checkMember(catalog, member, place);
                }
                catch (thrown) {
                    const error = toAfterimageError(thrown);
                    if (error.code === 'INTERRUPTED' || error.code === 'INTERNAL')
                        throw thrown;
                    const directory = this.store.journalDirectory(member.group, member.uuid);
                    this.findings.push(finding('MEMBER_UNCHECKED', place, directory, `${error.code}: ${error.message}`));
                }
            }
        }
    }
    async checkMember(catalog, member, place) {
        const { native } = this.parts;
        const reading = {
            begin: (file) => {
                if (this.parts.signal.aborted)
                    throw new AfterimageError('INTERRUPTED', `the check stopped at ${file}`);
                this.file = file;
                this.tell();
            },
            done: async (bytes) => {
                if (this.file.endsWith('.seg'))
                    this.segments += 1;
                this.bytesDone += bytes;
                this.tell();
                await this.pace.spent(bytes);
            },
        };
        const { store } = this;
        const { inspection, findings } = await checkJournal({ catalog, store, native, ...reading }, member, place);
        const { segments } = inspection;
        const eras = await checkEras(catalog, member, place, segments);
        this.findings.push(...findings, ...eras.findings);
        this.findings.push(...checkCheckpoints(catalog, member, place, segments, store.catalogFile));
        const bases = [];
        const { log } = this.parts;
        for (const volume of catalog.volumes.volumes(member.uuid)) {
            const base = await checkBase({ catalog, store, native, log, ...reading }, member, volume, place, segments);
            this.findings.push(...base.findings);
            bases.push(base);
        }
        this.checked.push({ member, inspection, missingEras: eras.missing, bases });
    }
    async repairMembers() {
        const catalog = Catalog.open(this.store.catalogFile);
        try {
            for (const checked of this.checked)
                await this.repairMember(catalog, checked);
        }
        finally {
            catalog.close();
        }
    }
    async repairMember(catalog, { member, inspection, missingEras, bases }) {
        const own = this.findings.filter(({ subject }) => this.store.isOf(member, subject));
        // The receiver refuses it at its start, until somebody has brought the right catalog.
        if (own.some(({ code }) => code === 'GENERATION_UNKNOWN'))
            return;
        const { log, native } = this.parts;
        await clearTheWay(inspection, log);
        reconcile({ catalog, log }, member, catalog.generations.newest(member.uuid), inspection);
        catalog.atomically(() => missingEras.forEach((era) => catalog.eras.add(era)));
        for (const segment of inspection.segments) {
            if (!segment.sealed || inspection.runs.has(segment.firstLsn))
                continue;
            await native.buildRun(segment, runFile(segment.path));
            catalog.segments.setRun(member.uuid, segment.firstLsn, true);
        }
        for (const one of own) {
            if (BUILT.includes(one.code) || RECONCILED.includes(one.code))
                one.repaired = true;
        }
        for (const base of bases) {
            const mended = await repairBase({ catalog, store: this.store, native, log }, member, base);
            for (const one of base.findings)
                if (mended.includes(one.code))
                    one.repaired = true;
        }
    }
    isMended({ code, subject }) {
        if (REMOVED.includes(code))
            return true;
        const isOfMember = this.checked.some(({ member }) => this.store.isOf(member, subject));
        return isOfMember && (BUILT.includes(code) || RECONCILED.includes(code) || OF_BASES.includes(code));
    }
    get isUnsafe() {
        return this.findings.some(({ code }) => UNSAFE.includes(code));
    }
    report() {
        const { findings, segments, bytesDone: bytesRead } = this;
        return {
            store: this.store.directory,
            verdict: verdictOf(findings),
            segments,
            bytesRead,
            findings: [...findings],
        };
    }
    add(code, subject, message) {
        this.findings.push(finding(code, NOWHERE, subject, message));
    }
    tell() {
        const { file, bytesDone, bytesTotal } = this;
        this.parts.progress({ file, bytesDone, bytesTotal });
    }
}
function verdictOf(findings) {
    const has = (severity) => findings.some((one) => one.severity === severity);
    if (has('damage'))
        return 'damaged';
    if (has('unchecked'))
        return 'unchecked';
    if (findings.some(({ severity, repaired }) => severity === 'repairable' && !repaired))
        return 'repairable';
    return findings.some(({ repaired }) => repaired) ? 'repaired' : 'sound';
}
/** Of all segments and bases below `directory`. */
async function bytesBelow(directory) {
    let bytes = 0n;
    const names = await named(readdir(directory, { recursive: true }), directory);
    for (const name of names.filter((one) => /\.(seg|img)$/.test(one))) {
        const file = path.join(directory, name);
        bytes += (await named(stat(file, { bigint: true }), file)).size;
    }
    return bytes;
}
//# sourceMappingURL=store_check.js.map