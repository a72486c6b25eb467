/**
 * What happens in a round, decided by seed and number alone: where everything lies, and which faults strike in which order.
 * Kinds are dealt to the rounds as from a deck of cards, so that after any number of rounds all have come up alike.
 */
import { pseudorandom } from '../scenario/seed.js';

/**
 * What a fault needs to be around it, and what it may cost. `breaks`: the stream may not be able to go on, and a new
 * generation begins. `fails`: production may see an error while it lasts; `refusesFlushes`: and its flushes also afterwards,
 * until the backing is opened anew, as after one that `opensAnew`. `slows`: production is frozen or slowed on purpose, or
 * its host is gone.
 */
interface Needs {
  store?: StoreKind;
  hasFaultyState?: true;
  hasFaultyBacking?: true;
  hasSmallRing?: true;
  /** A volume whose clients are no kernel: they need not send again what was not answered. */
  hasSocket?: true;
  /** Only where the stamp writers have a loop device and nothing else. */
  isLoopAlone?: true;
  breaks?: true;
  fails?: true;
  refusesFlushes?: true;
  opensAnew?: true;
  slows?: true;
}
type StoreKind = 'small' | 'faulty';
/** What the stamp writers write to. */
type Volumes = 'loop' | 'loop-and-socket';

export const FAULTS = {
  'agent-killed': { opensAnew: true },
  'agent-killed-writing': { hasFaultyBacking: true, hasSocket: true, opensAnew: true, slows: true },
  'receiver-killed': { store: 'faulty' },
  'both-killed': { opensAnew: true },
  'agent-stopped': { slows: true },
  'receiver-stopped': {},
  'agent-replaced': { opensAnew: true },
  'receiver-restarted': {},
  'link-cut': {},
  'link-delayed': {},
  'link-throttled': {},
  'link-stalled': {},
  'ring-full': { hasSmallRing: true, breaks: true },
  'host-lost': { isLoopAlone: true, breaks: true, fails: true, opensAnew: true, slows: true },
  'store-full': { store: 'small' },
  'store-no-space': { store: 'faulty' },
  'store-write-fails': { store: 'faulty' },
  'store-write-torn': { store: 'faulty' },
  'store-write-short': { store: 'faulty' },
  'store-sync-fails': { store: 'faulty' },
  'state-full': { hasFaultyState: true, opensAnew: true },
  'state-write-fails': { hasFaultyState: true, opensAnew: true },
  'backing-write-fails': { hasFaultyBacking: true, isLoopAlone: true, breaks: true, fails: true },
  'backing-sync-fails': {
    hasFaultyBacking: true,
    isLoopAlone: true,
    breaks: true,
    fails: true,
    refusesFlushes: true,
  },
} as const satisfies Record<string, Needs>;
export type FaultKind = keyof typeof FAULTS;
const KINDS = Object.keys(FAULTS) as FaultKind[];
export const faultNeeds = (kind: FaultKind): Needs => FAULTS[kind];

export interface RoundPlan {
  seed: number;
  volumes: Volumes;
  store: StoreKind;
  hasFaultyState: boolean;
  hasFaultyBacking: boolean;
  ringBytes: string;
  /** Null: what the ring has no room for goes nowhere. */
  spoolBytes: string | null;
  /** Whether history is so short that bases move meanwhile. */
  isHistoryShort: boolean;
  /** In this order. */
  faults: FaultKind[];
  /** The stream may break. */
  mayBreak: boolean;
}

/** In so many rounds every kind comes up once, and then again in another order. */
export const DEAL_ROUNDS = 8;
const FAULTS_OF_ROUND = 3;
/** Before they are shuffled: two in which the stream may break, two with a socket. */
const SMALL_RING_ROUND = 0;
const LOST_ROUND = 1;
const FAULTY_BACKING_ROUNDS = [LOST_ROUND, 3];
const VOLUMES_OF_ROUND: Partial<Record<number, Volumes>> = {
  3: 'loop-and-socket',
  4: 'loop-and-socket',
};
const VOLUMES: readonly Volumes[] = ['loop', 'loop', 'loop-and-socket'];
/** What a receiver that is away leaves goes through the spool, which lies in the state directory. */
const SPOOL_ROUND = 5;
const FAULTY_STORES = 5;
const FAULTY_STATES = 3;
const SMALL_RING = '8MiB';
/** Less than a round writes while its receiver is away, and a spool that holds it. */
const SPOOLED_RING = '32MiB';
const SPOOL = '1GiB';
const RING_OF_ROUND: Partial<Record<number, string>> = {
  [SMALL_RING_ROUND]: SMALL_RING,
  [SPOOL_ROUND]: SPOOLED_RING,
};
/** More than that, and more than a database writes meanwhile, which does so as fast as it can. */
const LARGE_RING = '1GiB';

if (KINDS.length !== DEAL_ROUNDS * FAULTS_OF_ROUND) throw new Error('a deal holds every kind of fault once');

/** The seed of round `round`, 0, 1, …: with the plan it makes the round again. */
export function roundSeed(seed: number, round: number): number {
  return Math.floor(pseudorandom(seed * 1_000_003 + round)() * 2 ** 32);
}

export function planRound(seed: number, round: number): RoundPlan {
  const plan = deal(seed, Math.floor(round / DEAL_ROUNDS))[round % DEAL_ROUNDS] as Dealt;
  return {
    seed: roundSeed(seed, round),
    ...plan,
    mayBreak: plan.ringBytes === SMALL_RING || plan.faults.some((kind) => faultNeeds(kind).breaks),
  };
}

type Dealt = Omit<RoundPlan, 'seed' | 'mayBreak'>;

/** The rounds of deal `number`, 0, 1, …. */
function deal(seed: number, number: number): Dealt[] {
  // Not the numbers that any of its rounds goes by.
  const random = pseudorandom(roundSeed(seed, number) ^ 0x5ea1);
  const any = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const shuffled = <T>(all: readonly T[]): T[] => {
    const rest = [...all];
    return all.map(() => rest.splice(Math.floor(random() * rest.length), 1)[0] as T);
  };
  const lots = (count: number): boolean[] =>
    shuffled(Array.from({ length: DEAL_ROUNDS }, (_, index) => index < count));

  const hasFaultyStore = lots(FAULTY_STORES);
  const hasFaultyState = lots(FAULTY_STATES);
  const rounds = shuffled(
    Array.from({ length: DEAL_ROUNDS }, (_, index): Dealt => {
      const volumes = index === SMALL_RING_ROUND ? any(VOLUMES) : (VOLUMES_OF_ROUND[index] ?? 'loop');
      return {
        volumes,
        store: hasFaultyStore[index] ? 'faulty' : 'small',
        // A host that loses power loses it everywhere.
        hasFaultyState: index === LOST_ROUND || (index !== SPOOL_ROUND && hasFaultyState[index] === true),
        hasFaultyBacking: FAULTY_BACKING_ROUNDS.includes(index),
        ringBytes: RING_OF_ROUND[index] ?? LARGE_RING,
        spoolBytes: index === SPOOL_ROUND ? SPOOL : null,
        isHistoryShort: random() < 0.25,
        faults: [],
      };
    }),
  );
  const give = (kind: FaultKind): void => {
    const open = rounds.filter((round) => round.faults.length < FAULTS_OF_ROUND && fits(kind, round));
    if (open.length === 0) throw new Error(`no round of a deal has room for ${kind}`);
    any(open).faults.push(kind);
  };
  // Those that few rounds can have go first; the sort is stable.
  const choices = (kind: FaultKind): number => rounds.filter((round) => fits(kind, round)).length;
  for (const kind of shuffled(KINDS).sort((a, b) => choices(a) - choices(b))) give(kind);
  for (const round of rounds) round.faults = shuffled(round.faults);
  return rounds;
}

function fits(kind: FaultKind, round: Dealt): boolean {
  const wanted = faultNeeds(kind);
  if (wanted.store !== undefined && wanted.store !== round.store) return false;
  if (wanted.hasFaultyState && !round.hasFaultyState) return false;
  if (wanted.hasFaultyBacking && !round.hasFaultyBacking) return false;
  if (wanted.hasSmallRing && round.ringBytes !== SMALL_RING) return false;
  if (wanted.hasSocket && round.volumes !== 'loop-and-socket') return false;
  // A stream breaks where it may break anyway: all other rounds show that theirs goes on.
  if (wanted.breaks && round.ringBytes !== SMALL_RING && !round.hasFaultyBacking) return false;
  return !wanted.isLoopAlone || round.volumes === 'loop';
}
