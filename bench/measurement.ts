/** What a measurement is, and how its pairs are judged. */
import { readFile } from 'node:fs/promises';

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
  /** Conditions of the bar that this run broke ("tracking", "durable after 3.1 s"): none counts as holding. */
  broken: string[];
}
export interface Measurement {
  name: string;
  unit: string;
  peerName: string | null;
  /** On the ratio ours/peer (a minimum), or without a peer on ours (a maximum); null: reported only. */
  bar: number | null;
  run(scale: Scale, progress: (text: string) => void): Promise<{ ours: Sample[]; peer: number[] }>;
}

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
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[Math.max(0, middle - 1)], sorted[middle]];
  if (low === undefined || high === undefined) throw new Error('the median of nothing');
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

export function judge(measurement: Measurement, ours: readonly Sample[], peer: readonly number[]): Report {
  const values = ours.map((sample) => sample.value);
  const broken = ours.flatMap((sample) => sample.broken);
  const { name, unit, peerName, bar } = measurement;
  const ratios = peer.map((value, i) => (values[i] ?? Number.NaN) / value);
  const judged = peer.length > 0 ? ratios : values;
  const met = peer.length > 0 ? median(judged) >= (bar ?? 0) : median(judged) <= (bar ?? Infinity);
  return {
    name,
    unit,
    ours: median(values),
    peer: peer.length > 0 ? median(peer) : null,
    peerName,
    ratio: peer.length > 0 ? median(ratios) : null,
    spread: [Math.min(...judged), Math.max(...judged)],
    bar,
    holds: bar === null ? null : met && broken.length === 0,
    broken,
  };
}

/** Share of the CPU that the hypervisor took away while `run` ran, and its result. */
export async function withSteal<T>(run: () => Promise<T>): Promise<{ result: T; steal: number }> {
  const read = async (): Promise<number[]> => {
    const line = (await readFile('/proc/stat', 'utf8')).split('\n', 1)[0] ?? '';
    return line.trim().split(/\s+/).slice(1, 9).map(Number);
  };
  const before = await read();
  const result = await run();
  const delta = (await read()).map((value, i) => value - (before[i] ?? 0));
  const total = delta.reduce((sum, value) => sum + value, 0);
  return { result, steal: total > 0 ? (delta[7] ?? 0) / total : 0 };
}

const STEAL_MAX = 0.1;
const REPEATS_MAX = 3;

/** Repeats a run during which the hypervisor stole more than a tenth of the CPU, and says so. */
export async function undisturbed<T>(run: () => Promise<T>, progress: (text: string) => void): Promise<T> {
  for (let repeat = 0; ; repeat += 1) {
    const { result, steal } = await withSteal(run);
    if (steal <= STEAL_MAX || repeat >= REPEATS_MAX) return result;
    progress(`${(steal * 100).toFixed(0)} % of the CPU was stolen: repeating`);
  }
}
