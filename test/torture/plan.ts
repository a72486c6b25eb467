/** What happens in a round, decided by its seed alone: where everything lies, and which faults strike in which order. */
import { pseudorandom } from '../scenario/seed.js';

/**
 * What a fault needs to be around it, and what it may cost. `breaks`: the stream may not be able to go on, and a new
 * generation begins. `fails`: production may see an error.
 */
interface Needs {
  store?: StoreKind;
  hasFaultyState?: true;
  hasFaultyBacking?: true;
  hasSmallRing?: true;
  /** Only where what is written to is a loop device that nothing is mounted from. */
  isLoopAlone?: true;
  breaks?: true;
  fails?: true;
}
type StoreKind = 'small' | 'faulty';

export const FAULTS = {
  'agent-killed': {},
  'receiver-killed': {},
  'both-killed': {},
  'agent-stopped': {},
  'receiver-stopped': {},
  'agent-replaced': {},
  'receiver-restarted': {},
  'link-cut': {},
  'link-delayed': {},
  'link-throttled': {},
  'link-stalled': {},
  'ring-full': { hasSmallRing: true, breaks: true },
  'host-lost': { isLoopAlone: true, breaks: true, fails: true },
  'store-full': { store: 'small' },
  'store-no-space': { store: 'faulty' },
  'store-write-fails': { store: 'faulty' },
  'store-write-torn': { store: 'faulty' },
  'store-write-short': { store: 'faulty' },
  'store-sync-fails': { store: 'faulty' },
  'state-full': { hasFaultyState: true },
  'state-write-fails': { hasFaultyState: true },
  'backing-write-fails': { hasFaultyBacking: true, isLoopAlone: true, breaks: true, fails: true },
  'backing-sync-fails': { hasFaultyBacking: true, isLoopAlone: true, breaks: true, fails: true },
} as const satisfies Record<string, Needs>;
export type FaultKind = keyof typeof FAULTS;
const KINDS = Object.keys(FAULTS) as FaultKind[];
const needsOf = (kind: FaultKind): Needs => FAULTS[kind];

export interface RoundPlan {
  seed: number;
  volumes: 'loop' | 'loop-and-socket' | 'database';
  store: StoreKind;
  hasFaultyState: boolean;
  hasFaultyBacking: boolean;
  ringBytes: string;
  /** Whether history is so short that bases move meanwhile. */
  isHistoryShort: boolean;
  /** A round of its own kind, and what comes with it. */
  faults: FaultKind[];
  /** The stream may break; production may see errors. */
  mayBreak: boolean;
  mayFail: boolean;
}

const FAULTS_MAX = 4;
/** Every so many rounds a database works as well. */
const DATABASE_EVERY = 8;
const SMALL_RING = '8MiB';
/** More than a round writes while its receiver is away. */
const LARGE_RING = '512MiB';
/** With a database, which writes as fast as it can. */
const HUGE_RING = '1GiB';

/** The seed of round `round`, 0, 1, …: it alone makes the round again. */
export function roundSeed(seed: number, round: number): number {
  return Math.floor(pseudorandom(seed * 1_000_003 + round)() * 2 ** 32);
}

/** `round` chooses the first fault, so that all kinds strike equally often. */
export function planRound(seed: number, round: number): RoundPlan {
  const random = pseudorandom(roundSeed(seed, round));
  const chance = (share: number): boolean => random() < share;
  const any = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const main = KINDS[round % KINDS.length] as FaultKind;
  const needs = needsOf(main);
  const isDatabase = round % DATABASE_EVERY === DATABASE_EVERY - 1 && needs.isLoopAlone !== true;
  const volumes = isDatabase
    ? 'database'
    : needs.isLoopAlone !== true && chance(0.25)
      ? 'loop-and-socket'
      : 'loop';
  const plan = {
    volumes,
    store: needs.store ?? (chance(0.6) ? 'small' : 'faulty'),
    hasFaultyState: needs.hasFaultyState ?? chance(0.3),
    hasFaultyBacking: needs.hasFaultyBacking ?? (volumes === 'loop' && chance(0.2)),
    ringBytes: needs.hasSmallRing ? SMALL_RING : isDatabase ? HUGE_RING : LARGE_RING,
    isHistoryShort: chance(0.25),
  } as const;
  const fits = (kind: FaultKind): boolean => {
    const wanted = needsOf(kind);
    if (wanted.store !== undefined && wanted.store !== plan.store) return false;
    if (wanted.hasFaultyState && !plan.hasFaultyState) return false;
    if (wanted.hasFaultyBacking && !plan.hasFaultyBacking) return false;
    if (wanted.hasSmallRing && plan.ringBytes !== SMALL_RING) return false;
    return !wanted.isLoopAlone || volumes === 'loop';
  };
  const more = KINDS.filter((kind) => fits(kind));
  const faults: FaultKind[] = Array.from({ length: Math.floor(random() * FAULTS_MAX) }, () => any(more));
  faults.splice(Math.floor(random() * (faults.length + 1)), 0, main);
  return {
    seed: roundSeed(seed, round),
    ...plan,
    faults,
    mayBreak: plan.ringBytes === SMALL_RING || faults.some((kind) => needsOf(kind).breaks),
    mayFail: faults.some((kind) => needsOf(kind).fails),
  };
}
