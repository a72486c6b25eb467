/** Opens a member's journal at the start: inspects it, sets the catalog right, and places the native writer. */
import { unlink } from 'node:fs/promises';
import type { JournalWriter, SegmentInfo, SegmentVolume } from '../../native/index.js';
import type * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { parseUuid } from '../../proto/uuid.js';
import type { Log } from '../../service/log.js';
import type { Catalog } from '../catalog/catalog.js';
import type { GenerationRow } from '../catalog/generations.js';
import type { MemberRow } from '../catalog/members.js';
import { coveredTime } from '../coverage.js';
import type { Store } from '../store.js';
import { inspectJournal, type Hole, type Inspection } from './inspection.js';
import { segmentRow } from './segment_row.js';

export interface OpeningParts {
  catalog: Catalog;
  store: Store;
  native: Pick<typeof native, 'openJournal' | 'scanSegment' | 'timeAtLsn'>;
  log: Log;
  segmentBytes: bigint;
}

export interface OpenJournal {
  writer: JournalWriter;
  /** The last segment, up to its last valid frame; null in an empty journal. */
  last: SegmentInfo | null;
}

/**
 * Inspects the directory, sets the catalog right, and opens the journal for appending. Holes are recorded as damage
 * and end the present generation: the next one is compared anew.
 * Errors: JOURNAL_IO, STORE_INVALID, SEGMENT_VERSION.
 */
export async function openJournal(parts: OpeningParts, member: MemberRow): Promise<OpenJournal> {
  const { catalog, store } = parts;
  const directory = store.journalDirectory(member.group, member.uuid);
  const inspection = await inspectJournal({
    directory,
    known: catalog.segments.segments(member.uuid),
    ackedLsn: ackedRecord(member, catalog.generations.generations(member.uuid)),
    scan: parts.native.scanSegment,
  });
  for (const file of inspection.abandoned) await unlink(file);
  reconcile(parts, member, catalog.generations.newest(member.uuid), inspection);
  const last = inspection.segments.at(-1) ?? null;
  await noteLastEra(parts, member, last);
  const writer = await openWriter(parts, member, directory, inspection);
  return { writer, last };
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

/** Makes the catalog say what the directory holds. */
function reconcile(
  { catalog, log }: OpeningParts,
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
    for (const row of catalog.segments.segments(member.uuid)) {
      catalog.segments.delete(member.uuid, row.firstLsn);
    }
    for (const segment of segments) {
      catalog.segments.put(segmentRow(segment, member.uuid, runs.has(segment.firstLsn)));
    }
    const known = catalog.damage.damage(member.uuid);
    const found = holes.filter(
      (hole) => !known.some((row) => row.firstLsn <= hole.firstLsn && hole.lastLsn <= row.lastLsn),
    );
    if (newest === null || found.length === 0) return;
    for (const hole of found) recordHole(hole, newest);
    const lastLsn = [last?.lastLsn ?? 0n, member.ackedLsn, holes.at(-1)?.lastLsn ?? 0n].reduce(larger);
    const coveredNs = coveredTime(member.coverage, newest.firstLsn, catalog.eras.eras(member.uuid));
    const endNs = larger(last?.lastTimeNs ?? 0n, coveredNs);
    catalog.generations.end(member.uuid, newest.generation, lastLsn, endNs, 'SEGMENT_CORRUPT');
  });

  function recordHole({ firstLsn, lastLsn, reason }: Hole, { generation }: GenerationRow): void {
    log.error(
      { code: 'SEGMENT_CORRUPT', member: member.uuid, firstLsn, lastLsn, reason },
      'acknowledged records are missing from the journal: instants from there on are graded damaged',
    );
    catalog.damage.add({ member: member.uuid, firstLsn, lastLsn, foundGeneration: generation, reason });
  }
}

/** Frames that were durable and not yet acknowledged at a crash may have begun an era: after what was acknowledged. */
async function noteLastEra(
  { catalog, native: { timeAtLsn } }: OpeningParts,
  member: MemberRow,
  last: SegmentInfo | null,
): Promise<void> {
  const known = catalog.eras.eras(member.uuid).at(-1)?.era ?? 0;
  if (last === null || last.lastEra === known) return;
  const firstLsn = larger(last.firstLsn, member.ackedLsn + 1n);
  if (firstLsn > last.lastLsn) return;
  catalog.eras.add({
    member: member.uuid,
    era: last.lastEra,
    firstLsn,
    firstTimeNs: await timeAtLsn(last, firstLsn),
    previousTimeNs: firstLsn > last.firstLsn ? await timeAtLsn(last, firstLsn - 1n) : 0n,
  });
}

async function openWriter(
  { catalog, native, segmentBytes }: OpeningParts,
  member: MemberRow,
  directory: string,
  { segments, tail }: Inspection,
): Promise<JournalWriter> {
  const newest = catalog.generations.newest(member.uuid);
  const last = segments.at(-1);
  // Where an ended generation lost its end, numbers up to there stay used.
  const lastLsn = larger(last?.lastLsn ?? 0n, newest?.lastLsn ?? 0n);
  const isBegun = newest === null || newest.lastLsn !== null || last?.generation === newest.generation;
  const writer = await native.openJournal({
    directory,
    group: parseUuid(member.group),
    member: parseUuid(member.uuid),
    segmentBytes,
    position: {
      epoch: member.epoch,
      generation: isBegun ? (newest?.generation ?? 0n) : (last?.generation ?? 0n),
      lastLsn,
      link: last?.link ?? 0,
    },
    tail: tail !== null && tail.lastLsn === lastLsn ? tail : null,
  });
  if (!isBegun) {
    // Recorded in the catalog, and interrupted before its first frame.
    const volumes = segmentVolumes(catalog, member.uuid, newest.generation);
    await writer.beginGeneration(member.epoch, newest.generation, newest.firstLsn, volumes);
  }
  return writer;
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

function larger(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}
