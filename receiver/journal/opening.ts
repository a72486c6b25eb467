/** Opens a member's journal at the start: inspects it, sets the catalog right, and places the native writer. */
import { rename, unlink } from 'node:fs/promises';
import type { Appended, JournalWriter, SegmentInfo, SegmentVolume } from '../../native/index.js';
import type * as native from '../../native/index.js';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { higher } from '../../proto/watermarks.js';
import { parseUuid } from '../../proto/uuid.js';
import type { Log } from '../../service/log.js';
import { named } from '../../service/system_errors.js';
import type { BaseAccess } from '../base_access.js';
import type { Catalog } from '../catalog/catalog.js';
import type { GenerationRow } from '../catalog/generations.js';
import type { MemberRow } from '../catalog/members.js';
import type { Store } from '../store.js';
import { recordDamage } from './damage_record.js';
import { removeDropped } from './dropped_files.js';
import { inspectJournal, type Inspection, type InspectionOptions } from './inspection.js';
import { segmentEras } from './segment_eras.js';
import { segmentRow } from './segment_row.js';

export interface OpeningParts {
  catalog: Catalog;
  access: BaseAccess;
  store: Store;
  native: Pick<typeof native, 'openJournal' | 'scanSegment' | 'timeAtLsn' | 'isRunOf'>;
  log: Log;
  segmentBytes: bigint;
  /** Of the store's file system: what a new segment leaves free, so that history can still be shortened. */
  headroomBytes: bigint;
}

export interface OpenJournal {
  writer: JournalWriter;
  /** The last segment, up to its last valid frame; null in an empty journal. */
  last: SegmentInfo | null;
  /** What beginning the generation has changed, that a crash had interrupted; null: there was none. */
  begun: Appended | null;
}

/**
 * Inspects the directory, sets the catalog right, and opens the journal for appending. Holes are recorded as damage
 * and end the present generation: the next one is compared anew.
 * Errors: JOURNAL_IO, STORE_INVALID, SEGMENT_VERSION.
 */
export function openJournal(parts: OpeningParts, member: MemberRow): Promise<OpenJournal> {
  return parts.access.withoutRoll(member.uuid, () => inspectAndOpen(parts, member));
}

async function inspectAndOpen(parts: OpeningParts, member: MemberRow): Promise<OpenJournal> {
  const { catalog, store, log } = parts;
  const directory = store.journalDirectory(member.group, member.uuid);
  await removeDropped(directory, catalog.windows.held(member.uuid).droppedLsn);
  const inspection = await inspectJournal({
    directory,
    ...expectation(catalog, member),
    scan: parts.native.scanSegment,
    isRunOf: parts.native.isRunOf,
  });
  await clearTheWay(inspection, log);
  reconcile(parts, member, catalog.generations.newest(member.uuid), inspection);
  const last = inspection.segments.at(-1) ?? null;
  await noteEras(parts, member, inspection.segments);
  return { ...(await openWriter(parts, member, directory, inspection)), last };
}

/** What the catalog says must be in a member's journal. */
export function expectation(
  catalog: Catalog,
  member: MemberRow,
): Pick<InspectionOptions, 'identity' | 'known' | 'ackedLsn' | 'droppedLsn' | 'usedLsn'> {
  return {
    identity: { group: parseUuid(member.group), member: parseUuid(member.uuid) },
    known: catalog.segments.segments(member.uuid),
    ackedLsn: ackedRecord(member, catalog.generations.generations(member.uuid)),
    droppedLsn: catalog.windows.held(member.uuid).droppedLsn,
    usedLsn: usedNumber(member, catalog),
  };
}

/**
 * The last record that was acknowledged. A generation without one has its durable end just before its first LSN, above
 * numbers that were never used: those are not missing.
 */
function ackedRecord(member: MemberRow, generations: readonly GenerationRow[]): bigint {
  for (const { firstLsn, lastLsn } of generations.toReversed()) {
    const end = lastLsn ?? member.ackedLsn;
    if (end >= firstLsn) return end;
  }
  return 0n;
}

/** The highest number that was ever given away, as far as the catalog knows. */
function usedNumber(member: MemberRow, catalog: Catalog): bigint {
  return [
    member.ackedLsn,
    ...catalog.generations.generations(member.uuid).map(({ lastLsn }) => lastLsn ?? 0n),
    ...catalog.damage.damage(member.uuid).map(({ lastLsn }) => lastLsn),
    catalog.segments.last(member.uuid)?.lastLsn ?? 0n,
  ].reduce(higher);
}

/** The next segments are written where these stand. */
export async function clearTheWay({ abandoned, unreadable }: Inspection, log: Log): Promise<void> {
  for (const file of abandoned) {
    log.warn({ file }, 'a segment whose creation was interrupted is removed');
    await named(unlink(file), file);
  }
  for (const file of unreadable) {
    log.error(
      { file },
      'a segment that the disk does not give, or of another journal, is put aside: .unreadable at the end of its name',
    );
    await named(rename(file, `${file}.unreadable`), file);
  }
}

/** Makes the catalog say what the directory holds. Errors: STORE_INVALID when it is older than that. */
export function reconcile(
  { catalog, log }: Pick<OpeningParts, 'catalog' | 'log'>,
  member: MemberRow,
  newest: GenerationRow | null,
  { segments, runs, holes }: Inspection,
): void {
  const last = segments.at(-1);
  if (last !== undefined && (newest === null || last.generation > newest.generation)) {
    throw new AfterimageError(
      'STORE_INVALID',
      `${last.path} is of generation ${last.generation}, which the catalog does not know`,
    );
  }
  catalog.atomically(() => {
    const found = new Set(segments.map(({ firstLsn }) => firstLsn));
    for (const { firstLsn } of catalog.segments.segments(member.uuid)) {
      // Of the others the catalog knows more than their files tell: their age.
      if (!found.has(firstLsn)) catalog.segments.delete(member.uuid, firstLsn);
    }
    for (const segment of segments) {
      catalog.segments.put(segmentRow(segment, member.uuid, runs.has(segment.firstLsn)));
    }
    const end = { lastLsn: last?.lastLsn ?? 0n, lastTimeNs: last?.lastTimeNs ?? 0n };
    recordDamage({ catalog, log }, member.uuid, holes, end, null);
  });
}

/** Frames that were durable when the receiver was killed may have begun eras that the catalog never heard of. */
export async function noteEras(
  { catalog }: Pick<OpeningParts, 'catalog'>,
  member: MemberRow,
  segments: readonly SegmentInfo[],
): Promise<void> {
  const known = catalog.eras.eras(member.uuid).at(-1);
  const from = known?.firstLsn ?? 0n;
  // The catalog learns of eras whenever a segment is sealed: what is missing lies at the end.
  const unknown = segments.findIndex(({ lastLsn, lastEra }) => lastLsn >= from && lastEra !== known?.era);
  if (unknown === -1) return;
  let era = known?.era;
  let previousTimeNs = segments[unknown - 1]?.lastTimeNs ?? 0n;
  for (const segment of segments.slice(unknown)) {
    for (const { first, previousTimeNs: within } of await segmentEras(segment)) {
      const { firstLsn, firstTimeNs } = first;
      const isNew = firstLsn > from && first.era !== era;
      era = first.era;
      if (!isNew) continue;
      catalog.eras.add({
        ...{ member: member.uuid, era, firstLsn, firstTimeNs },
        previousTimeNs: within ?? previousTimeNs,
      });
    }
    previousTimeNs = segment.lastTimeNs;
  }
}

async function openWriter(
  { catalog, native, segmentBytes, headroomBytes, log }: OpeningParts,
  member: MemberRow,
  directory: string,
  { segments, tail }: Inspection,
): Promise<Pick<OpenJournal, 'writer' | 'begun'>> {
  const newest = catalog.generations.newest(member.uuid);
  const last = segments.at(-1);
  let begun: Appended | null = null;
  // Where an ended generation lost its end, numbers up to there stay used.
  const lastLsn = higher(last?.lastLsn ?? 0n, newest?.lastLsn ?? 0n);
  const isBegun = newest === null || newest.lastLsn !== null || last?.generation === newest.generation;
  const generation = isBegun ? (newest?.generation ?? 0n) : (last?.generation ?? 0n);
  // Damage may have ended a generation that has no segment yet: the tail is then of the one before.
  const isTail = tail !== null && tail.lastLsn === lastLsn && tail.generation === generation;
  const writer = await native.openJournal({
    directory,
    group: parseUuid(member.group),
    member: parseUuid(member.uuid),
    segmentBytes,
    headroomBytes,
    position: {
      epoch: member.epoch,
      generation,
      lastLsn,
      link: last?.link ?? 0,
    },
    tail: isTail ? tail : null,
  });
  if (!isBegun) {
    // Recorded in the catalog, and interrupted before its first frame.
    try {
      const volumes = segmentVolumes(catalog, member.uuid, newest.generation);
      begun = await writer.beginGeneration(member.epoch, newest.generation, newest.firstLsn, volumes);
    } catch (thrown) {
      // What is there can be recovered all the same. The next session begins it, or is refused with the reason.
      const { generation } = newest;
      log.error(
        { err: toAfterimageError(thrown), member: member.uuid, generation },
        'a generation did not begin',
      );
    }
  }
  return { writer, begun };
}

/** The volumes of a generation as its first segment lists them. */
export function segmentVolumes(catalog: Catalog, member: string, generation: bigint): SegmentVolume[] {
  const volumes = new Map(catalog.volumes.volumes(member).map((volume) => [volume.number, volume]));
  return catalog.generations.volumes(member, generation).map(({ number, size }) => {
    const volume = volumes.get(number);
    if (volume === undefined) throw new Error(`volume ${number} of a generation is not in the catalog`);
    return { number, blockSize: volume.blockSize, uuid: parseUuid(volume.uuid), size };
  });
}
