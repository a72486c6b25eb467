/**
 * The timeline: which instants of a member's history can be had, and in what grade. Made from the catalog when asked
 * for; nothing here is stored.
 *
 *   ordered   every volume is consistent with the others: a recovery point at every LSN
 *   syncing   a generation has begun and not every volume's sync is complete
 *   gap       nothing was captured
 *   damaged   records are missing from the journal, until all that they had set was set again; or a block of a base is
 *             damaged that no record had written over yet; or a comparison with the source has found that they differ,
 *             from where they were last known to be equal until that was mended. Where that never came, or cannot be
 *             known: to the end of the generation in which it was found
 */
import type { Grade } from '../proto/control.js';
import { higher } from '../proto/watermarks.js';
import type { Catalog } from './catalog/catalog.js';
import type { BaseDamageRow } from './catalog/base_damage.js';
import type { DamageRow } from './catalog/damage.js';
import type { GenerationRow, GenerationVolumeRow } from './catalog/generations.js';
import type { HeldWindow } from './catalog/held_windows.js';
import type { DifferenceRow } from './catalog/verifications.js';
import { NOT_COVERED } from './catalog/members.js';
import { coveredTime } from './coverage.js';
import { NUMBER_MAX } from './session_limits.js';

export interface Span {
  grade: Grade;
  generation: bigint;
  /** Inclusive; 0n in a gap. A span without records has lastLsn == firstLsn − 1n. */
  firstLsn: bigint;
  lastLsn: bigint;
  /** Inclusive. */
  beginNs: bigint;
  /** Inclusive; null: it lasts. An ordered span ends where coverage is known to. */
  endNs: bigint | null;
  reason: string;
}

/** Of one generation, with what its records say. */
export interface GenerationHistory extends GenerationRow {
  volumes: readonly GenerationVolumeRow[];
  /** The last durable LSN; firstLsn − 1n while there is no record. */
  durableLsn: bigint;
  /** Times of its first and last record, null while there is none. */
  firstTimeNs: bigint | null;
  lastTimeNs: bigint | null;
}
/** A hole, with the time of the last record before it; null where none is left in its generation. */
export interface DamageHistory extends DamageRow {
  intactTimeNs: bigint | null;
}
/** What a row says of whom it is of, and when it was found. */
type RowOf = 'member' | 'number' | 'foundGeneration';
export interface MemberHistory {
  /** Ascending. */
  generations: readonly GenerationHistory[];
  damage: readonly DamageHistory[];
  baseDamage: readonly BaseDamageRow[];
  differences: readonly DifferenceRow[];
  /** Up to when the newest generation is covered behind its last record; 0n: no further. */
  coveredTimeNs: bigint;
  /** What retention has left of it. */
  held: HeldWindow;
}

/** The member's history as the catalog has it now: a few rows a generation, however long its journal is. */
export function readHistory(catalog: Catalog, member: string): MemberHistory {
  const { segments } = catalog;
  const generations = catalog.generations.generations(member);
  const newest = generations.at(-1);
  const coverage = catalog.members.member(member)?.coverage ?? NOT_COVERED;
  const held = catalog.windows.held(member);
  return {
    generations: generations.map((row, index) => {
      const next = generations[index + 1];
      const first = segments.atOrAfter(member, row.firstLsn);
      const last = segments.atOrBefore(member, next === undefined ? NUMBER_MAX : next.firstLsn - 1n);
      const isOwn = first?.generation === row.generation && last?.generation === row.generation;
      // The oldest point stands for the records before it, whose segments are in the bases.
      const { oldestLsn, oldestTimeNs } = held;
      const holdsOldest = oldestLsn >= row.firstLsn && (next === undefined || oldestLsn < next.firstLsn);
      return {
        ...row,
        volumes: catalog.generations.volumes(member, row.generation),
        durableLsn: isOwn ? last.lastLsn : holdsOldest ? oldestLsn : row.firstLsn - 1n,
        firstTimeNs: holdsOldest ? oldestTimeNs : isOwn ? first.firstTimeNs : null,
        lastTimeNs: isOwn ? last.lastTimeNs : holdsOldest ? oldestTimeNs : null,
      };
    }),
    damage: catalog.damage.damage(member).map((row) => {
      const before = segments.atOrBefore(member, row.firstLsn - 1n);
      return { ...row, intactTimeNs: before?.lastLsn === row.firstLsn - 1n ? before.lastTimeNs : null };
    }),
    baseDamage: catalog.baseDamage.damage(member),
    differences: catalog.verifications.differences(member),
    coveredTimeNs:
      newest === undefined ? 0n : coveredTime(coverage, newest.firstLsn, catalog.eras.eras(member)),
    held,
  };
}

/** Ascending in LSN and, but for clock steps, in time. */
export function spansOf(history: MemberHistory): Span[] {
  const { generations, damage, baseDamage, differences, coveredTimeNs, held } = history;
  const spans: Span[] = [];
  generations.forEach((generation, index) => {
    const next = generations[index + 1] ?? null;
    const endNs = endOf(generation, next === null ? coveredTimeNs : 0n, next);
    const concerns = (row: { foundGeneration: bigint }): boolean =>
      row.foundGeneration >= generation.generation;
    const intact = damage
      .filter(concerns)
      .reduce((own, row) => lostWhile(row, own), graded(generation, endNs));
    const hurt = baseDamage.filter(concerns).reduce((own, row) => damagedWhile(row, own), intact);
    spans.push(...differences.filter(concerns).reduce((own, row) => differingWhile(row, own), hurt));
    if (generation.lastLsn === null && next === null) return;
    spans.push({
      grade: 'gap',
      generation: generation.generation,
      firstLsn: 0n,
      lastLsn: 0n,
      beginNs: endNs,
      endNs: next === null ? null : higher(endNs, beginOf(next)),
      reason: generation.endReason === '' ? (next?.reason ?? '') : generation.endReason,
    });
  });
  return heldSpans(spans, held);
}

/** `spans` from the oldest point on, with which the first one then begins. */
function heldSpans(spans: Span[], { oldestLsn, oldestTimeNs }: HeldWindow): Span[] {
  const index = spans.findIndex(
    ({ grade, firstLsn, lastLsn }) => grade !== 'gap' && firstLsn <= oldestLsn && oldestLsn <= lastLsn,
  );
  const span = spans[index];
  if (oldestLsn === 0n || span === undefined) return spans;
  const beginNs = higher(span.beginNs, oldestTimeNs);
  const endNs = span.endNs === null ? null : higher(span.endNs, beginNs);
  return [{ ...span, firstLsn: oldestLsn, beginNs, endNs }, ...spans.slice(index + 1)];
}

/** The spans of one generation, without the gap behind it. */
function graded(generation: GenerationHistory, endNs: bigint): Span[] {
  const { firstLsn, reason } = generation;
  const lastLsn = higher(generation.durableLsn, generation.lastLsn ?? 0n);
  const beginNs = beginOf(generation);
  const ordered = orderedFrom(generation);
  const spans: Span[] = [];
  const span = (grade: Grade, from: bigint, to: bigint, begin: bigint, end: bigint | null, why: string) =>
    spans.push({
      grade,
      generation: generation.generation,
      firstLsn: from,
      lastLsn: to,
      beginNs: begin,
      endNs: end,
      reason: why,
    });
  if (ordered === null) {
    const isLasting = generation.lastLsn === null;
    span('syncing', firstLsn, lastLsn, beginNs, isLasting ? null : endNs, reason);
  } else {
    const orderedNs = ordered.lsn > firstLsn ? higher(beginNs, ordered.timeNs) : beginNs;
    if (ordered.lsn > firstLsn) span('syncing', firstLsn, ordered.lsn - 1n, beginNs, orderedNs, reason);
    const from = higher(firstLsn, ordered.lsn);
    span('ordered', from, lastLsn, orderedNs, higher(orderedNs, endNs), '');
  }
  return spans;
}

/** `spans` with everything damaged that lost records touch. */
function lostWhile(row: DamageHistory, spans: readonly Span[]): Span[] {
  const { firstLsn, intactTimeNs, touchedLsn, touchedTimeNs, reason } = row;
  const bounds = {
    firstLsn,
    firstTimeNs: intactTimeNs ?? 0n,
    lastLsn: touchedLsn,
    lastTimeNs: touchedTimeNs,
  };
  return differingWhile({ ...bounds, reason }, spans);
}

/** `spans` with everything damaged in which the replica may differ from the source. */
function differingWhile(row: Omit<DifferenceRow, RowOf>, spans: readonly Span[]): Span[] {
  const { firstLsn, firstTimeNs } = row;
  return spans.flatMap((span): Span[] => {
    const isWhole = span.firstLsn >= firstLsn || span.lastLsn < firstLsn || span.grade === 'damaged';
    if (isWhole) return damagedWhile(row, [span]);
    const cutNs = higher(span.beginNs, firstTimeNs);
    const endNs = span.endNs === null ? null : higher(span.endNs, cutNs);
    return [
      { ...span, lastLsn: firstLsn - 1n, endNs: cutNs },
      ...damagedWhile(row, [{ ...span, firstLsn, beginNs: cutNs, endNs }]),
    ];
  });
}

/** `spans` with everything damaged that needs a damaged block of a base. */
function damagedWhile(
  { firstLsn, lastLsn, lastTimeNs, reason }: Omit<BaseDamageRow, RowOf>,
  spans: readonly Span[],
): Span[] {
  return spans.flatMap((span): Span[] => {
    const isBefore = higher(span.firstLsn, span.lastLsn) < firstLsn;
    const isBehind = lastLsn !== null && span.firstLsn > lastLsn;
    if (isBefore || isBehind || span.grade === 'damaged') return [span];
    const hurt = { ...span, grade: 'damaged' as const, reason };
    if (lastLsn === null || span.lastLsn <= lastLsn) return [hurt];
    const cutNs = higher(span.beginNs, lastTimeNs ?? 0n);
    return [
      { ...hurt, lastLsn, endNs: cutNs },
      { ...span, firstLsn: lastLsn + 1n, beginNs: cutNs },
    ];
  });
}

/** Where and when all volumes of the generation have become consistent, or null. */
function orderedFrom({ volumes }: GenerationHistory): { lsn: bigint; timeNs: bigint } | null {
  let lsn = 0n;
  let timeNs = 0n;
  for (const volume of volumes) {
    if (volume.orderedLsn === null || volume.orderedTimeNs === null) return null;
    lsn = higher(lsn, volume.orderedLsn);
    timeNs = higher(timeNs, volume.orderedTimeNs);
  }
  return { lsn, timeNs };
}

/**
 * Whether a span is the first of a generation that was consistent before its first record: that names the first record
 * then, but with a time of its own.
 */
export function beganOrdered({ generations }: MemberHistory, { generation, firstLsn }: Span): boolean {
  const own = generations.find((each) => each.generation === generation);
  return (
    own?.firstLsn === firstLsn &&
    own.volumes.every(
      ({ orderedLsn, orderedTimeNs }) => orderedLsn === firstLsn && orderedTimeNs !== own.firstTimeNs,
    )
  );
}

/** A generation that became consistent before its first record begins then, else with that record. */
function beginOf(generation: GenerationHistory): bigint {
  const { firstLsn, firstTimeNs, beginNs } = generation;
  const ordered = orderedFrom(generation);
  if (ordered === null || ordered.lsn > firstLsn || ordered.timeNs === 0n) return firstTimeNs ?? beginNs;
  return firstTimeNs !== null && firstTimeNs < ordered.timeNs ? firstTimeNs : ordered.timeNs;
}

function endOf(generation: GenerationHistory, coveredTimeNs: bigint, next: GenerationHistory | null): bigint {
  const begin = beginOf(generation);
  const last = higher(begin, generation.lastTimeNs ?? 0n);
  const end = higher(last, generation.endNs ?? coveredTimeNs);
  // The clock was set back: what it showed before the next generation began says nothing of the time in between.
  return next !== null && beginOf(next) < end ? last : end;
}
