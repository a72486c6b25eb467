/** What production was served while faults struck (R7): which operations failed, and how long one waited. */
import { faultNeeds, type FaultKind } from './plan.js';
import type { StampedOperation } from './stamp_writer.js';
import { GIVEN_UP } from './load.js';

/** A fault, from its begin until it was healed. CLOCK_REALTIME, ns. */
export interface Strike {
  kind: FaultKind;
  beginNs: bigint;
  endNs: bigint;
}
type Served = Pick<StampedOperation, 'kind' | 'isFua' | 'errno' | 'submitNs' | 'ackNs'>;

/** What was healed within a millisecond of an operation may still have been there for it. */
const HEALED_NS = 100_000_000n;
/** What production waits so soon after a fault is put down to it: its connections and processes come back. */
const BACK_NS = 1_000_000_000n;

/**
 * The operations that failed and were not allowed to: an error may be seen while a fault lasts that `fails`, and by what flushes
 * also from a failed flush on until the backing is opened anew.
 */
export function failedForNothing<T extends Served>(
  operations: readonly T[],
  strikes: readonly Strike[],
): T[] {
  const failing = strikes.filter(({ kind }) => faultNeeds(kind).fails);
  return operations.filter((operation) => {
    if (operation.errno === 0 || operation.errno === GIVEN_UP) return false;
    if (failing.some((strike) => overlaps(operation, strike.beginNs, strike.endNs + HEALED_NS))) return false;
    return !(operation.kind === 'flush' || operation.isFua) || !isFlushRefused(operation, strikes);
  });
}

/** The longest wait of an operation that was under way between the two instants, ms. */
export function pauseMs(operations: readonly Served[], fromNs: bigint, toNs: bigint): number {
  return longestMs(operations.filter((operation) => overlaps(operation, fromNs, toNs)));
}

/** What production waited because of one fault, ms. */
export function pauseMsOf(operations: readonly Served[], { beginNs, endNs }: Strike): number {
  return pauseMs(operations, beginNs, endNs + BACK_NS);
}

/**
 * The longest wait of an operation that met no fault that freezes production, slows it, or ends its host on purpose, ms;
 * where it waited for more than one successor, for one of them. `deathsNs`: when an agent was killed, in order.
 */
export function unintendedPauseMs(
  operations: readonly Served[],
  strikes: readonly Strike[],
  deathsNs: readonly bigint[],
): number {
  const slowing = strikes.filter(({ kind }) => faultNeeds(kind).slows);
  return operations
    .filter(
      (operation) => !slowing.some(({ beginNs, endNs }) => overlaps(operation, beginNs, endNs + BACK_NS)),
    )
    .reduce((longest, { submitNs, ackNs }) => {
      const [, ...deaths] = deathsNs.filter((atNs) => atNs >= submitNs && atNs <= ackNs);
      const ends = [...deaths, ackNs];
      return ends.reduce((most, endNs, index) => {
        const waitedMs = Number(endNs - (ends[index - 1] ?? submitNs)) / 1e6;
        return Math.max(most, waitedMs);
      }, longest);
    }, 0);
}

/** After a failed flush every other one fails until the backing is opened anew. */
function isFlushRefused(operation: Served, strikes: readonly Strike[]): boolean {
  const begin = strikes.findLast(
    ({ kind, beginNs }) => faultNeeds(kind).refusesFlushes && beginNs <= operation.ackNs,
  );
  if (begin === undefined) return false;
  const anew = strikes.find(({ kind, beginNs }) => faultNeeds(kind).opensAnew && beginNs > begin.beginNs);
  return anew === undefined || operation.submitNs <= anew.endNs + HEALED_NS;
}

function overlaps({ submitNs, ackNs }: Served, fromNs: bigint, toNs: bigint): boolean {
  return ackNs >= fromNs && submitNs <= toNs;
}

function longestMs(operations: readonly Served[]): number {
  return operations.reduce(
    (longest, { submitNs, ackNs }) => Math.max(longest, Number(ackNs - submitNs) / 1e6),
    0,
  );
}
