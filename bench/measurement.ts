/** What a measurement is, and how its pairs are judged. */
export interface Scale {
  quick: boolean;
  /** Pairs A B A B …; at least five when it counts. */
  pairs: number;
  /** Seconds of one sustained run. */
  seconds: number;
  /** Seconds of the same load before it, which count for nothing. */
  warmSeconds: number;
  volumeBytes: number;
  burstBytes: number;
  historyWrites: number;
  /** Of the volume that is copied as a whole, half of it empty. */
  syncBytes: number;
  /** What the narrow line is behind with. */
  wanBytes: number;
  /** Rows of pgbench's accounts, in units of 100,000. */
  pgbenchScale: number;
  /** Volumes of a group, and agents of a receiver, that are compared with one. */
  growth: { volumes: number[]; agents: number[] };
}
export const FULL: Scale = {
  quick: false,
  pairs: 5,
  seconds: 30,
  warmSeconds: 4,
  volumeBytes: 1 << 30,
  burstBytes: 200 << 20,
  historyWrites: 1_000_000,
  syncBytes: 4 * 2 ** 30,
  wanBytes: 200 << 20,
  pgbenchScale: 20,
  growth: { volumes: [8, 32], agents: [10, 50] },
};
/** A smoke run: shows that the harness works, not how fast anything is. */
export const QUICK: Scale = {
  quick: true,
  pairs: 2,
  seconds: 2,
  warmSeconds: 1,
  volumeBytes: 128 << 20,
  burstBytes: 64 << 20,
  historyWrites: 20_000,
  syncBytes: 256 << 20,
  wanBytes: 16 << 20,
  pgbenchScale: 1,
  growth: { volumes: [2], agents: [2] },
};

export interface Sample {
  value: number;
  /** Share of the CPU that the hypervisor took away meanwhile, 0…1. */
  steal: number;
  /** Conditions of the bar that this run broke ("tracking", "durable after 3.1 s"): none counts as holding. */
  broken: string[];
  /** What else was seen, by name with its unit ("lagP99Ms", "cpuSecondsPerGiB"). */
  seen?: Record<string, number>;
}
/** A run as it was made; how much was stolen meanwhile is found by whoever has it made (calm.ts). */
export type Run = Omit<Sample, 'steal'>;

/** On the median of the pairs' ratios ours/peer, or without a peer on ours. */
export interface Bar {
  must: number;
  aim: number;
  /** Whether what is judged shall be at least that, or at most. */
  side: 'least' | 'most';
}
export const least = (must: number, aim: number): Bar => ({ must, aim, side: 'least' });
export const most = (must: number, aim: number): Bar => ({ must, aim, side: 'most' });

export interface Runs {
  ours: Sample[];
  peer: Sample[];
}
export interface Measurement {
  /** "NAME", or "NAME/VARIANT": whoever asks for NAME gets all of them. */
  name: string;
  unit: string;
  peerName: string | null;
  /** Null: reported only. */
  bar: Bar | null;
  /** How it is measured, as a reader would have to do it: cache mode, block size, what counts. */
  conditions: Record<string, string>;
  run(scale: Scale, progress: Progress): Promise<Runs>;
}
export type Progress = (text: string) => void;

/** One line of `--json`. */
export interface Report {
  name: string;
  unit: string;
  ours: number;
  peer: number | null;
  peerName: string | null;
  /** Median of the pairs' ratios. */
  ratio: number | null;
  /** Of the pairs' ratios; without a peer, of ours. */
  spread: [number, number];
  bar: Bar | null;
  /** Whether the "must" is met, and no condition broken. */
  holds: boolean | null;
  /** Whether the aim is. */
  aimed: boolean | null;
  broken: string[];
  conditions: Record<string, string>;
  /** Every run, in order, so that a reader can judge the spread himself. */
  runs: Runs;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[Math.max(0, middle - 1)], sorted[middle]];
  if (low === undefined || high === undefined) throw new Error('the median of nothing');
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

export function judge(measurement: Measurement, { ours, peer }: Runs): Report {
  const values = ours.map((sample) => sample.value);
  const peers = peer.map((sample) => sample.value);
  const broken = [
    ...ours.flatMap((sample) => sample.broken),
    ...peer.flatMap((sample) => sample.broken.map((reason) => `peer: ${reason}`)),
  ];
  const { name, unit, peerName, bar, conditions } = measurement;
  const judged = peers.length > 0 ? values.map((value, i) => value / (peers[i] ?? Number.NaN)) : values;
  const figure = median(judged);
  const meets = (limit: number): boolean => (bar?.side === 'most' ? figure <= limit : figure >= limit);
  return {
    name,
    unit,
    ours: median(values),
    peer: peers.length > 0 ? median(peers) : null,
    peerName,
    ratio: peers.length > 0 ? figure : null,
    spread: [Math.min(...judged), Math.max(...judged)],
    bar,
    holds: bar === null ? null : meets(bar.must) && broken.length === 0,
    aimed: bar === null ? null : meets(bar.aim) && broken.length === 0,
    broken,
    conditions,
    runs: { ours, peer },
  };
}
