/**
 * `afterimage receiver fsck`: checks a store that no receiver runs on, and explains what it finds. Reads only, the catalog
 * from a copy, until it is told to repair; a repair does what the next start of the receiver would do, without trusting
 * a segment for its size, and removes what means nothing. Nothing that it does can lose history.
 */
import { readdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import type * as native from '../../native/index.js';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { syncDirectory } from '../../service/durable_file.js';
import type { Log } from '../../service/log.js';
import { Pace, type PaceParts } from '../../service/pace.js';
import { named } from '../../service/system_errors.js';
import { Catalog } from '../catalog/catalog.js';
import { toCatalogError } from '../catalog/database.js';
import { catalogIntegrity } from '../catalog/integrity.js';
import { MIGRATIONS } from '../catalog/migrations.js';
import type { EraRow } from '../catalog/eras.js';
import type { MemberRow } from '../catalog/members.js';
import type { Inspection } from '../journal/inspection.js';
import { clearTheWay, reconcile } from '../journal/opening.js';
import { runFile, Store } from '../store.js';
import {
  checkBase,
  repairBase,
  type BaseCheckParts,
  type BaseRepairParts,
  type CheckedBase,
} from './base_check.js';
import { CatalogCopy } from './catalog_copy.js';
import { checkFiles } from './files_check.js';
import { finding, NOWHERE, type Finding, type FindingCode } from './finding.js';
import { checkCheckpoints, checkEras } from './history_check.js';
import { checkJournal } from './journal_check.js';

/** In the order of their weight: the last one that applies counts. */
export type Verdict = 'sound' | 'repaired' | 'repairable' | 'unchecked' | 'damaged';

export interface StoreReport {
  /** The store's directory. */
  store: string;
  verdict: Verdict;
  segments: number;
  bytesRead: bigint;
  findings: Finding[];
}
export interface CheckProgress {
  /** The file that is being read. */
  file: string;
  bytesDone: bigint;
  bytesTotal: bigint;
}
export interface StoreCheckParts extends PaceParts {
  native: Pick<typeof native, 'lockFile' | 'scanSegment' | 'runFault' | 'buildRun'> &
    BaseCheckParts['native'] &
    BaseRepairParts['native'];
  /** Bytes per second that are read at most; null: no bound. */
  rate: bigint | null;
  progress: (progress: CheckProgress) => void;
  log: Log;
}

/** A member whose journal could be read. */
interface CheckedMember {
  member: MemberRow;
  inspection: Inspection;
  missingEras: EraRow[];
  bases: CheckedBase[];
}

const REMOVED: readonly FindingCode[] = ['LEFTOVER', 'RUN_ORPHAN'];
const BUILT: readonly FindingCode[] = ['RUN_MISSING', 'RUN_PENDING', 'RUN_WRONG'];
/** Set right by what the next start would do. */
const RECONCILED: readonly FindingCode[] = [
  ...([
    'SEGMENT_MISSING',
    'SEGMENT_DAMAGED',
    'SEGMENT_UNREADABLE',
    'SEGMENT_FOREIGN',
    'SEGMENT_LINK',
  ] as const),
  ...(['RECORDS_MISSING', 'SEGMENT_ABANDONED', 'SEGMENT_STRAY'] as const),
  ...(['CATALOG_ROW', 'CATALOG_BEHIND', 'ERA_MISSING'] as const),
];
/** Marked, recorded, or given checksums (base_check.ts). */
const OF_BASES: readonly FindingCode[] = ['BASE_LOST', 'BASE_SHORT', 'BASE_BLOCK', 'BASE_UNSUMMED'];
/** A store with one of these is not touched. */
const UNSAFE: readonly FindingCode[] = ['CATALOG_MISSING', 'CATALOG_CORRUPT', 'CATALOG_REFERENCE'];

export class StoreCheck {
  private readonly findings: Finding[] = [];
  private readonly checked: CheckedMember[] = [];
  private bytesTotal = 0n;
  private bytesDone = 0n;
  private segments = 0;
  private file = '';
  private readonly pace: Pace;

  private constructor(
    private readonly parts: StoreCheckParts,
    private readonly store: Store,
  ) {
    this.pace = new Pace(parts.rate, parts);
  }

  /** Takes the store's lock. Errors: STORE_MISSING, STORE_INVALID, STORE_VERSION, STORE_BUSY, PERMISSION_DENIED. */
  static async open(parts: StoreCheckParts, directory: string): Promise<StoreCheck> {
    return new StoreCheck(parts, await Store.open(directory, parts.native.lockFile));
  }

  close(): void {
    this.store.close();
  }

  /** Once. Errors: STORE_VERSION, INTERRUPTED, PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
  async check(): Promise<StoreReport> {
    this.bytesTotal = await bytesBelow(path.join(this.store.directory, 'groups'));
    const copy = await CatalogCopy.of(this.store.catalogFile);
    try {
      const catalog = copy === null ? this.withoutCatalog() : this.openCatalog(copy.file);
      try {
        if (catalog !== null) await this.checkMembers(catalog);
        this.findings.push(...(await checkFiles(this.store, catalog)));
      } catch (thrown) {
        // What SQLite says where its own check found the file whole.
        throw toCatalogError(thrown);
      } finally {
        catalog?.close();
      }
    } finally {
      await copy?.remove();
    }
    return this.report();
  }

  /** Whether repair() would do anything. */
  get isRepairable(): boolean {
    return !this.isUnsafe && this.findings.some((one) => this.isMended(one));
  }

  /** After check(). Errors: JOURNAL_FULL, JOURNAL_IO, IO_ERROR, PERMISSION_DENIED. */
  async repair(): Promise<StoreReport> {
    if (!this.isRepairable) return this.report();
    // Without a member there may be no catalog either, and none is to be made.
    if (this.checked.length > 0) await this.repairMembers();
    for (const one of this.findings.filter(({ code }) => REMOVED.includes(code))) {
      await named(unlink(one.subject), one.subject);
      await syncDirectory(path.dirname(one.subject));
      one.repaired = true;
    }
    return this.report();
  }

  private withoutCatalog(): null {
    // A receiver that never ran has none.
    if (this.bytesTotal > 0n) this.add('CATALOG_MISSING', this.store.catalogFile, 'it is not there');
    return null;
  }

  private openCatalog(file: string): Catalog | null {
    const { faults, references, schema } = catalogIntegrity(file);
    for (const fault of faults) this.add('CATALOG_CORRUPT', this.store.catalogFile, fault);
    for (const text of references) this.add('CATALOG_REFERENCE', this.store.catalogFile, text);
    if (faults.length > 0) return null;
    if (schema < MIGRATIONS.length) {
      this.add(
        'CATALOG_SCHEMA',
        this.store.catalogFile,
        `schema ${schema}; this program's is ${MIGRATIONS.length}`,
      );
    }
    return Catalog.open(file);
  }

  private async checkMembers(catalog: Catalog): Promise<void> {
    for (const group of catalog.members.groups()) {
      for (const member of catalog.members.members(group.uuid)) {
        const place = { group: group.name, host: member.host };
        try {
          await this.checkMember(catalog, member, place);
        } catch (thrown) {
          const error = toAfterimageError(thrown);
          if (error.code === 'INTERRUPTED' || error.code === 'INTERNAL') throw thrown;
          const directory = this.store.journalDirectory(member.group, member.uuid);
          this.findings.push(
            finding('MEMBER_UNCHECKED', place, directory, `${error.code}: ${error.message}`),
          );
        }
      }
    }
  }

  private async checkMember(
    catalog: Catalog,
    member: MemberRow,
    place: { group: string; host: string },
  ): Promise<void> {
    const { native } = this.parts;
    const reading = {
      begin: (file: string) => {
        if (this.parts.signal.aborted)
          throw new AfterimageError('INTERRUPTED', `the check stopped at ${file}`);
        this.file = file;
        this.tell();
      },
      done: async (bytes: bigint) => {
        if (this.file.endsWith('.seg')) this.segments += 1;
        this.bytesDone += bytes;
        this.tell();
        await this.pace.spent(bytes);
      },
    };
    const { store } = this;
    const { inspection, findings } = await checkJournal(
      { catalog, store, native, ...reading },
      member,
      place,
    );
    const { segments } = inspection;
    const eras = await checkEras(catalog, member, place, segments);
    this.findings.push(...findings, ...eras.findings);
    this.findings.push(...checkCheckpoints(catalog, member, place, segments, store.catalogFile));
    const bases: CheckedBase[] = [];
    const { log } = this.parts;
    for (const volume of catalog.volumes.volumes(member.uuid)) {
      const base = await checkBase(
        { catalog, store, native, log, ...reading },
        member,
        volume,
        place,
        segments,
      );
      this.findings.push(...base.findings);
      bases.push(base);
    }
    this.checked.push({ member, inspection, missingEras: eras.missing, bases });
  }

  private async repairMembers(): Promise<void> {
    const catalog = Catalog.open(this.store.catalogFile);
    try {
      for (const checked of this.checked) await this.repairMember(catalog, checked);
    } finally {
      catalog.close();
    }
  }

  private async repairMember(
    catalog: Catalog,
    { member, inspection, missingEras, bases }: CheckedMember,
  ): Promise<void> {
    const own = this.findings.filter(({ subject }) => this.store.isOf(member, subject));
    // The receiver refuses it at its start, until somebody has brought the right catalog.
    if (own.some(({ code }) => code === 'GENERATION_UNKNOWN')) return;
    const { log, native } = this.parts;
    await clearTheWay(inspection, log);
    reconcile({ catalog, log }, member, catalog.generations.newest(member.uuid), inspection);
    catalog.atomically(() => missingEras.forEach((era) => catalog.eras.add(era)));
    for (const segment of inspection.segments) {
      if (!segment.sealed || inspection.runs.has(segment.firstLsn)) continue;
      await native.buildRun(segment, runFile(segment.path));
      catalog.segments.setRun(member.uuid, segment.firstLsn, true);
    }
    for (const one of own) {
      if (BUILT.includes(one.code) || RECONCILED.includes(one.code)) one.repaired = true;
    }
    for (const base of bases) {
      const mended = await repairBase({ catalog, store: this.store, native, log }, member, base);
      for (const one of base.findings) if (mended.includes(one.code)) one.repaired = true;
    }
  }

  private isMended({ code, subject }: Finding): boolean {
    if (REMOVED.includes(code)) return true;
    const isOfMember = this.checked.some(({ member }) => this.store.isOf(member, subject));
    return isOfMember && (BUILT.includes(code) || RECONCILED.includes(code) || OF_BASES.includes(code));
  }

  private get isUnsafe(): boolean {
    return this.findings.some(({ code }) => UNSAFE.includes(code));
  }

  private report(): StoreReport {
    const { findings, segments, bytesDone: bytesRead } = this;
    return {
      store: this.store.directory,
      verdict: verdictOf(findings),
      segments,
      bytesRead,
      findings: [...findings],
    };
  }

  private add(code: FindingCode, subject: string, message: string): void {
    this.findings.push(finding(code, NOWHERE, subject, message));
  }

  private tell(): void {
    const { file, bytesDone, bytesTotal } = this;
    this.parts.progress({ file, bytesDone, bytesTotal });
  }
}

function verdictOf(findings: readonly Finding[]): Verdict {
  const has = (severity: Finding['severity']): boolean => findings.some((one) => one.severity === severity);
  if (has('damage')) return 'damaged';
  if (has('unchecked')) return 'unchecked';
  if (findings.some(({ severity, repaired }) => severity === 'repairable' && !repaired)) return 'repairable';
  return findings.some(({ repaired }) => repaired) ? 'repaired' : 'sound';
}

/** Of all segments and bases below `directory`. */
async function bytesBelow(directory: string): Promise<bigint> {
  let bytes = 0n;
  const names = await named(readdir(directory, { recursive: true }), directory);
  for (const name of names.filter((one) => /\.(seg|img)$/.test(one))) {
    const file = path.join(directory, name);
    bytes += (await named(stat(file, { bigint: true }), file)).size;
  }
  return bytes;
}
