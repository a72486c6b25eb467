/** What a measurement is, and how its pairs are judged. */
export interface Scale {
  quick: boolean;
  /** Pairs A B A B …; at least five when it counts. */
  pairs: number;
  /** Seconds of one sustained run. */
  seconds: number;
  volumeBytes: number;
  burstBytes: number;
  historyWrites: number;
}
export const FULL: Scale = {
  quick: false,
  pairs: 5,
  seconds: 30,
  volumeBytes: 1 << 30,
  burstBytes: 200 << 20,
  historyWrites: 1_000_000,
};
/** A smoke run: shows that the harness works, not how fast anything is. */
export const QUICK: Scale = {
  quick: true,
  pairs: 2,
  seconds: 3,
  volumeBytes: 256 << 20,
  burstBytes: 64 << 20,
  historyWrites: 20_000,
};

export interface Sample {
  value: number;
  /** Share of the CPU that the hypervisor took away meanwhile, 0…1. */
  steal: number;
  /** Conditions of the bar that this run broke ("tracking", "durable after 3.1 s"): none counts as holding. */
  broken: string[];
}
export interface Measurement {
  name: string;
  unit: string;
  peerName: string | null;
  /** On the ratio ours/peer (a minimum), or without a peer on ours (a maximum); null: reported only. */
  bar: number | null;
  run(scale: Scale, progress: Progress): Promise<{ ours: Sample[]; peer: Sample[] }>;
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
  bar: number | null;
  holds: boolean | null;
  broken: string[];
  /** Every run, in order, so that a reader can judge the spread himself. */
  runs: { ours: Sample[]; peer: Sample[] };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[Math.max(0, middle - 1)], sorted[middle]];
  if (low === undefined || high === undefined) throw new Error('the median of nothing');
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

export function judge(measurement: Measurement, ours: readonly Sample[], peer: readonly Sample[]): Report {
  const values = ours.map((sample) => sample.value);
  const peers = peer.map((sample) => sample.value);
  const broken = [
    ...ours.flatMap((sample) => sample.broken),
    ...peer.flatMap((sample) => sample.broken.map((reason) => `peer: ${reason}`)),
  ];
  const { name, unit, peerName, bar } = measurement;
  const ratios = peers.map((value, i) => (values[i] ?? Number.NaN) / value);
  const judged = peers.length > 0 ? ratios : values;
  // A ratio by its median; a limit by the worst that was seen.
  const met = peers.length > 0 ? median(judged) >= (bar ?? 0) : Math.max(...judged) <= (bar ?? Infinity);
  return {
    name,
    unit,
    ours: median(values),
    peer: peers.length > 0 ? median(peers) : null,
    peerName,
    ratio: peers.length > 0 ? median(ratios) : null,
    spread: [Math.min(...judged), Math.max(...judged)],
    bar,
    holds: bar === null ? null : met && broken.length === 0,
    broken,
    runs: { ours: [...ours], peer: [...peer] },
  };
}
