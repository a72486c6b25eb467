/** What shall go wrong in one history, and how often. Quiet histories and wild ones find different faults. */
import type { BacklogLimits } from './model_backlog.js';
import type { NetworkFaults } from './network.js';
import type { Random } from './random.js';

/** None of them costs history, as long as ring and spool last and nothing else goes wrong. */
const HARMLESS = [
  'connectionLost',
  'outage',
  'slowDisk',
  'slowLink',
  'agentKilled',
  'receiverCrash',
  'checkpoint',
] as const;

const KINDS = [
  'connectionLost',
  'outage',
  'slowDisk',
  'slowLink',
  'agentCrash',
  'agentKilled',
  'spoolDamaged',
  'powerLoss',
  'logsRestored',
  'agentStop',
  'receiverCrash',
  'receiverRestored',
  'agentCloned',
  'checkpoint',
  'verify',
  'volumesChange',
  'writtenBehind',
] as const;

export interface FaultPlan {
  durationMs: number;
  /** Mean time between two faults. */
  everyMs: number;
  kinds: (typeof KINDS)[number][];
  network: NetworkFaults;
  /** Probabilities, per access or per frame. */
  agentFailure: number;
  storeFailure: number;
  corruption: number;
  backlog: BacklogLimits;
  /** LSNs that an agent reserves at once. */
  lsnReserve: bigint;
  /** Nothing of it may cost history. */
  isHarmless: boolean;
}

export function faultPlan(random: Random): FaultPlan {
  return random.chance(0.1) ? harmlessPlan(random) : wildPlan(random);
}

function harmlessPlan(random: Random): FaultPlan {
  return {
    durationMs: random.int(5_000, 30_000),
    everyMs: random.pick([300, 1500]),
    kinds: [...HARMLESS],
    network: { lose: 0, repeat: 0, reorder: 0 },
    agentFailure: 0,
    storeFailure: 0,
    corruption: 0,
    backlog: { ringBytes: random.pick([30_000, 120_000]), spoolBytes: 4_000_000 },
    lsnReserve: 1n << 20n,
    isHarmless: true,
  };
}

function wildPlan(random: Random): FaultPlan {
  const kinds = KINDS.filter(() => random.chance(0.5));
  const rate = (most: number): number => (random.chance(0.4) ? (most * random.int(1, 10)) / 10 : 0);
  // A stream that loses a single message and goes on does not exist; it is played to see the numbers of messages work. It
  // could lose the very news by which a copy of the agent's state is told from its heir.
  const isCopied = kinds.includes('agentCloned') || kinds.includes('logsRestored') || kinds.length === 0;
  return {
    durationMs: random.int(5_000, 30_000),
    everyMs: random.pick([300, 1500, 5000]),
    kinds: kinds.length > 0 ? kinds : [...KINDS],
    network: { lose: isCopied ? 0 : rate(0.01), repeat: rate(0.01), reorder: isCopied ? 0 : rate(0.01) },
    agentFailure: rate(0.05),
    storeFailure: rate(0.01),
    corruption: rate(0.02),
    backlog: {
      ringBytes: random.pick([6_000, 30_000, 120_000]),
      spoolBytes: random.pick([0, 16_000, 120_000]),
    },
    lsnReserve: 64n,
    isHarmless: false,
  };
}
