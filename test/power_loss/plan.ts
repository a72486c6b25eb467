/** Which moments of a record are looked at: around every kind of sync, the rare ones all, of the frequent ones a share. */
import path from 'node:path';
import type { Operation } from '../fault/operation_log.js';
import { SAMPLE_KINDS, type SampleKind } from './sampler.js';

/** A state to be made: at a moment, of a kind, by a seed. */
export interface PlannedState {
  index: number;
  moment: number;
  kind: SampleKind;
  seed: number;
  /** The sync next to whose end the moment lies. */
  sync: Operation;
}

/** Distinct syncs, at least. */
export const POINTS_MIN = 500;
const STATES_PER_SYNC = 3;
/** Of one kind of sync, so many are taken before the share of the frequent ones decides. */
const RARE_MAX = 40;

/** `count` states around at least `pointsMin` syncs, where there are so many, ascending in moment. */
export function planStates(
  operations: readonly Operation[],
  count: number,
  pointsMin: number,
  random: () => number,
): PlannedState[] {
  const syncs = operations.filter(
    ({ kind, error }) => (kind === 'sync' || kind === 'syncdir') && error === 0,
  );
  const chosen = chooseSyncs(syncs, Math.max(pointsMin, Math.ceil(count / STATES_PER_SYNC)), random);
  if (chosen.length === 0) return [];
  const planned = Array.from({ length: count }, (_, index) => {
    const sync = chosen[index % chosen.length] as Operation;
    const round = Math.floor(index / chosen.length);
    // By turns each kind meets each sync.
    const kind = SAMPLE_KINDS[(index + round * 3) % SAMPLE_KINDS.length] as SampleKind;
    return { moment: momentNear(sync, operations, random), kind, seed: Math.floor(random() * 2 ** 31), sync };
  });
  return planned
    .sort((left, right) => left.moment - right.moment)
    .map((state, index) => ({ index, ...state }));
}

function chooseSyncs(syncs: readonly Operation[], count: number, random: () => number): Operation[] {
  const byKind = new Map<string, Operation[]>();
  for (const sync of syncs) byKind.set(kindOf(sync), [...(byKind.get(kindOf(sync)) ?? []), sync]);
  const chosen = new Set<Operation>();
  for (const own of byKind.values())
    for (const sync of shuffled(own, random).slice(0, RARE_MAX)) chosen.add(sync);
  for (const sync of shuffled(syncs, random)) {
    if (chosen.size >= count) break;
    chosen.add(sync);
  }
  return shuffled([...chosen], random);
}

/** What kind of file is synced: in the name of a segment only its suffix counts. */
export function kindOf({ kind, path: name }: Operation): string {
  const base = path.basename(name);
  const shown = base.replace(/^\d{20}/, 'N').replace(/^[0-9a-f]{8}-[0-9a-f-]{27}/, 'UUID');
  return `${kind} ${shown}`;
}

/** Mostly just before its end, when most is uncertain; sometimes while it lasts, or just behind. */
function momentNear(
  { begin, end }: Operation,
  operations: readonly Operation[],
  random: () => number,
): number {
  const dice = random();
  if (dice < 0.55) return end - 1;
  if (dice < 0.7) return end;
  if (dice < 0.85) return begin + Math.floor(random() * (end - begin));
  // Somewhere behind it, where the next has not begun.
  const last = operations.at(-1)?.end ?? end;
  return Math.min(last, end + Math.floor(random() * 8));
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const all = [...items];
  for (let index = all.length - 1; index > 0; index -= 1) {
    const other = Math.floor(random() * (index + 1));
    [all[index], all[other]] = [all[other] as T, all[index] as T];
  }
  return all;
}
