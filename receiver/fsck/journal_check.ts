/**
 * One member's journal against the catalog: every byte of every segment is read, by the same code as at the start of the
 * receiver (receiver/journal/inspection.ts), and what it concludes is explained.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type * as native from '../../native/index.js';
import type { SegmentInfo } from '../../native/index.js';
import type { Catalog } from '../catalog/catalog.js';
import type { DamageRow } from '../catalog/damage.js';
import type { GenerationRow } from '../catalog/generations.js';
import type { MemberRow } from '../catalog/members.js';
import type { SegmentRow } from '../catalog/segments.js';
import { higher } from '../../proto/watermarks.js';
import { holesBetween, unknownParts, type Hole } from '../journal/holes.js';
import { findSegments, inspectionOf, type FoundSegment, type Inspection } from '../journal/inspection.js';
import { expectation } from '../journal/opening.js';
import { segmentRow } from '../journal/segment_row.js';
import { segmentName, type Store } from '../store.js';
import { finding, type Finding, type FindingCode, type FindingPlace } from './finding.js';

export interface JournalCheckParts {
  catalog: Catalog;
  store: Store;
  native: Pick<typeof native, 'scanSegment' | 'runFault'>;
  /** Before and after a segment is read: `bytes` is its size. */
  begin: (file: string) => void;
  done: (bytes: bigint) => Promise<void>;
}

export interface CheckedJournal {
  inspection: Inspection;
  findings: Finding[];
}

/** Errors: IO_ERROR, PERMISSION_DENIED, SEGMENT_VERSION: nothing can be said of this journal. */
export async function checkJournal(
  parts: JournalCheckParts,
  member: MemberRow,
  place: FindingPlace,
): Promise<CheckedJournal> {
  const { catalog, store, native } = parts;
  const directory = store.journalDirectory(member.group, member.uuid);
  const expected = expectation(catalog, member);
  const runFaults = new Map<string, string>();
  const reading: Parameters<typeof findSegments>[0] = {
    directory,
    ...expected,
    // Without a row nothing is trusted by its size: everything is read.
    known: [],
    scan: async (file, checkPayload) => {
      parts.begin(file);
      const scan = await native.scanSegment(file, checkPayload);
      await parts.done(scan.fileBytes);
      return scan;
    },
    isRunOf: async (segment, run) => {
      const fault = await native.runFault(segment, run);
      if (fault !== '') runFaults.set(run, fault);
      return fault === '';
    },
  };
  // A member that was killed at its birth has none yet.
  const found = existsSync(directory) ? await findSegments(reading) : [];
  const inspection = inspectionOf(found, expected);
  const explanation = new Explanation(catalog, member, place, directory, found, inspection);
  return {
    inspection,
    findings: [...explanation.findings(), ...runFindings(found, expected.known, runFaults, place)],
  };
}

class Explanation {
  private readonly rows: Map<bigint, SegmentRow>;
  private readonly damage: readonly DamageRow[];
  private readonly generations: readonly GenerationRow[];

  constructor(
    private readonly catalog: Catalog,
    private readonly member: MemberRow,
    private readonly place: FindingPlace,
    private readonly directory: string,
    private readonly found: readonly FoundSegment[],
    private readonly inspection: Inspection,
  ) {
    this.rows = new Map(catalog.segments.segments(member.uuid).map((row) => [row.firstLsn, row]));
    this.damage = catalog.damage.damage(member.uuid);
    this.generations = catalog.generations.generations(member.uuid);
    const start = this.missingStart();
    if (start !== null) inspection.holes.unshift(start);
  }

  findings(): Finding[] {
    return [
      ...this.inspection.holes
        .flatMap((hole) => unknownParts(hole, this.damage))
        .map((hole) => this.loss(hole)),
      ...this.found.flatMap((segment) => this.remains(segment)),
      ...this.rowFindings(),
      ...this.generationFindings(),
      ...this.damage.map((row) => this.knownDamage(row)),
    ];
  }

  /** Records that a base needs behind it, before the first segment: the catalog may have forgotten that there was one. */
  private missingStart(): Hole | null {
    const first = this.found[0];
    const { droppedLsn } = this.catalog.windows.held(this.member.uuid);
    const bases = this.catalog.volumes
      .volumes(this.member.uuid)
      .filter(({ baseState }) => baseState === 'BASE_COMPLETE')
      // A younger volume has nothing in what retention has let go.
      .map(({ baseLsn }) => higher(baseLsn, droppedLsn))
      .sort((left, right) => (left < right ? -1 : 1));
    const [baseLsn] = bases;
    if (first === undefined || baseLsn === undefined) return null;
    const needing = this.generations.find(({ firstLsn, lastLsn }) => {
      const end = lastLsn ?? this.member.ackedLsn;
      return end >= firstLsn && end > baseLsn;
    });
    if (needing === undefined) return null;
    const firstLsn = needing.firstLsn > baseLsn ? needing.firstLsn : baseLsn + 1n;
    return firstLsn < first.firstLsn
      ? { firstLsn, lastLsn: first.firstLsn - 1n, reason: 'a segment is missing' }
      : null;
  }

  private loss({ firstLsn, lastLsn }: Hole): Finding {
    const lsns = { firstLsn, lastLsn };
    const records = `records ${firstLsn} to ${lastLsn} cannot be read`;
    const before = this.found.findLast((segment) => segment.firstLsn <= firstLsn);
    if (before !== undefined && this.isCutAt(before, firstLsn)) {
      const why = before.reason === '' ? 'it ends too early' : before.reason;
      return finding(lossCode(before), this.place, before.file, `${why}; ${records}`, lsns);
    }
    const isFollowed = this.found.some((segment) => segment.firstLsn > firstLsn);
    if (!this.rows.has(firstLsn) && !isFollowed) {
      return finding('RECORDS_MISSING', this.place, this.directory, records, lsns);
    }
    const file = path.join(this.directory, segmentName(firstLsn));
    return finding('SEGMENT_MISSING', this.place, file, `it is not there; ${records}`, lsns);
  }

  /** Whether the segment held the record `lsn`, and does not give it. */
  private isCutAt({ firstLsn, info, reason }: FoundSegment, lsn: bigint): boolean {
    if (info === null) return firstLsn === lsn || (this.rows.get(firstLsn)?.lastLsn ?? 0n) >= lsn;
    if (info.lastLsn + 1n !== lsn) return false;
    return reason !== '' || (this.rows.get(firstLsn)?.lastLsn ?? 0n) >= lsn;
  }

  /** What is left in the directory that is no record. */
  private remains({ firstLsn, file, info, reason }: FoundSegment): Finding[] {
    const { abandoned, unreadable, holes } = this.inspection;
    if (info === null) {
      if (abandoned.includes(file))
        return [this.at('SEGMENT_ABANDONED', file, reason || 'it holds no record')];
      if (unreadable.includes(file)) return [this.at('SEGMENT_STRAY', file, reason)];
      const isTold = [...holes, ...this.damage].some(
        (lost) => lost.firstLsn <= firstLsn && firstLsn <= lost.lastLsn,
      );
      return isTold ? [] : [this.at('SEGMENT_ASIDE', file, reason || 'it holds no record')];
    }
    const next = info.lastLsn + 1n;
    if (
      reason === '' ||
      [...holes, ...this.damage].some((lost) => lost.firstLsn <= next && next <= lost.lastLsn)
    ) {
      return [];
    }
    const isLast = this.inspection.segments.at(-1) === info;
    return [
      this.at(isLast ? 'TAIL_TORN' : 'SEGMENT_TRAILING', file, `behind LSN ${info.lastLsn}: ${reason}`),
    ];
  }

  private rowFindings(): Finding[] {
    const findings: Finding[] = [];
    let behind = 0;
    for (const info of this.inspection.segments) {
      const row = this.rows.get(info.firstLsn);
      if (row === undefined || row.lastLsn < info.lastLsn || (!row.sealed && info.sealed)) behind += 1;
      else if (row.lastLsn === info.lastLsn && !isSame(row, info)) {
        findings.push(
          this.at('CATALOG_ROW', info.path, `${differences(row, info).join(', ')} differ from the catalog's`),
        );
      }
    }
    if (behind > 0) {
      findings.push(
        this.at('CATALOG_BEHIND', this.directory, `of ${behind} of its segments it knows less than is there`),
      );
    }
    return findings;
  }

  private generationFindings(): Finding[] {
    const findings: Finding[] = [];
    const newest = this.generations.at(-1)?.generation ?? 0n;
    let before: SegmentInfo | null = null;
    for (const info of this.inspection.segments) {
      const { generation, firstLsn, lastLsn } = info;
      const row = this.generations.find((one) => one.generation === generation);
      const say = (code: FindingCode, text: string): void => {
        findings.push(finding(code, this.place, info.path, text, { firstLsn, lastLsn }));
      };
      if (generation > newest)
        say('GENERATION_UNKNOWN', `it is of generation ${generation}, the catalog knows up to ${newest}`);
      else if (before !== null && generation < before.generation) {
        say('GENERATION_ORDER', `generation ${generation} after ${before.generation}`);
      } else if (row === undefined)
        say('GENERATION_ORDER', `the catalog does not know generation ${generation}`);
      else if (firstLsn < row.firstLsn || (row.lastLsn !== null && lastLsn > row.lastLsn)) {
        const end = row.lastLsn === null ? '…' : row.lastLsn.toString();
        say(
          'GENERATION_ORDER',
          `LSNs ${firstLsn} to ${lastLsn}, where generation ${generation} has ${row.firstLsn} to ${end}`,
        );
      }
      before = info;
    }
    return findings;
  }

  private knownDamage(row: DamageRow): Finding {
    const { firstLsn, lastLsn, touchedLsn, foundGeneration, reason } = row;
    const touches = touchedLsn === null ? `the end of generation ${foundGeneration}` : `LSN ${touchedLsn}`;
    const isThere = holesBetween([row], this.inspection.segments, new Map()).length === 0;
    return finding(
      isThere ? 'DAMAGE_FOUND' : 'DAMAGE_KNOWN',
      this.place,
      this.directory,
      `records ${firstLsn} to ${lastLsn}, found in generation ${foundGeneration}, touch instants to ${touches}: ${reason}`,
      { firstLsn, lastLsn },
    );
  }

  private at(code: FindingCode, file: string, message: string): Finding {
    return finding(code, this.place, file, message);
  }
}

function lossCode({ info, reason, isKept }: FoundSegment): FindingCode {
  if (reason.startsWith('FRAME_LINK') && info === null) return 'SEGMENT_LINK';
  if (!isKept) return 'SEGMENT_DAMAGED';
  return reason.startsWith('FRAME_FOREIGN') || reason.startsWith('FRAME_GAP')
    ? 'SEGMENT_FOREIGN'
    : 'SEGMENT_UNREADABLE';
}

function runFindings(
  found: readonly FoundSegment[],
  known: readonly SegmentRow[],
  faults: ReadonlyMap<string, string>,
  place: FindingPlace,
): Finding[] {
  const rows = new Map(known.map((row) => [row.firstLsn, row]));
  return found.flatMap(({ firstLsn, file, run, info, hasRun }) => {
    if (hasRun || info?.sealed !== true) return [];
    if (run !== null) {
      const text = (faults.get(run) ?? '').replace(`${run}: `, '');
      return [finding('RUN_WRONG', place, run, text)];
    }
    const isClaimed = rows.get(firstLsn)?.hasRun === true;
    return [finding(isClaimed ? 'RUN_MISSING' : 'RUN_PENDING', place, file, 'it has no run')];
  });
}

type Field = keyof SegmentRow;
/** What follows from the frames; the others are the catalog's own. */
const FIELDS: readonly Field[] = [
  ...(['generation', 'firstTimeNs', 'lastTimeNs', 'firstEra', 'lastEra', 'frames', 'records'] as const),
  ...(['rawBytes', 'bytes', 'link', 'sealed'] as const),
];

function differences(row: SegmentRow, info: SegmentInfo): Field[] {
  const other = segmentRow(info, row.member, row.hasRun);
  return FIELDS.filter((field) => row[field] !== other[field]);
}

function isSame(row: SegmentRow, info: SegmentInfo): boolean {
  return differences(row, info).length === 0;
}
