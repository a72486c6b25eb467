/**
 * The proof for R3, R4 and R6 under power loss: what was recorded of a site is played back, and at many moments states
 * that its disk may hold are made and opened.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describeOperation } from '../fault/operation_log.js';
import { Oracle } from '../scenario/oracle.js';
import { pseudorandom } from '../scenario/seed.js';
import { replayAt } from '../replay/replay.js';
import { Disk, type DiskFile, type DiskState } from './disk.js';
import { Judge, type Violation } from './judge.js';
import { planStates, type PlannedState } from './plan.js';
import { keep, noPromises } from './promises.js';
import { VOLUME_BYTES, VOLUMES, type Recording } from './recording.js';
import { sampleState, SAMPLE_KINDS, type Sample, type SampleKind } from './sampler.js';
import { StateDirectories } from './state_directory.js';
import { hashOf, Truth } from './truth.js';

export interface Failure {
  index: number;
  kind: string;
  moment: number;
  violations: Violation[];
  /** What was under way: the sync that the state lies next to, and what was uncertain. */
  operations: string[];
}
export interface Summary {
  /** Opened, no two of them alike. */
  states: number;
  /** Not opened: no other than those that were could be found at the moment. */
  repeated: number;
  /** Not opened for want of time. */
  leftOut: number;
  syncPoints: number;
  byKind: Record<string, number>;
  /** States in which something was uncertain. */
  uncertainStates: number;
  operationsUncertain: number;
  points: number;
  frames: number;
  failures: Failure[];
}
export interface ProofOptions {
  seed: number;
  states: number;
  /** Only the state of that index, which stays. */
  only: number | null;
  /** Of opening states. */
  secondsMax: number;
  onFailure: (failure: Failure) => void;
}

/** Points of the truth that the oracle of the writers judges. */
const ORACLE_POINTS = 12;
/** In one state of so many, more points are compared. */
const DEEP_EVERY = 4;
const DEEP_POINTS = 3;
const FAILURES_MAX = 20;
/** Tried where the planned kind gives nothing new. */
const OTHER_KINDS: readonly SampleKind[] = ['torn', 'subset', 'tornLast', 'torn', 'all', 'none'];
const UNCERTAIN_SHOWN = 12;

export async function prove(recording: Recording, options: ProofOptions): Promise<Summary> {
  const { seed, only } = options;
  // SQLite makes this one anew whenever a first process opens the database.
  const operations = recording.operations.filter(({ path: name }) => !name.endsWith('-shm'));
  const sizes = new Map(VOLUMES.map((_, number) => [number, VOLUME_BYTES]));
  const truth = await Truth.read(recording.memberDirectory, sizes);
  const member = recording.memberDirectory.split(path.sep).slice(-2).join('/');
  const random = pseudorandom(seed);
  const planned = planStates(operations, options.states, random);
  const promised = [...recording.promised].sort((left, right) => (left.ns < right.ns ? -1 : 1));
  const disk = new Disk(operations);
  const root = await mkdtemp(
    path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'afterimage-states-'),
  );
  const directories = new StateDirectories(root);
  const promises = noPromises();
  const summary: Summary = {
    states: 0,
    repeated: 0,
    leftOut: 0,
    syncPoints: 0,
    byKind: Object.fromEntries(SAMPLE_KINDS.map((kind) => [kind, 0])),
    uncertainStates: 0,
    operationsUncertain: 0,
    points: 0,
    frames: 0,
    failures: [],
  };
  const signatures = new Signatures();
  const syncs = new Set<number>();
  const beginMs = performance.now();
  let next = 0;
  try {
    for (const state of planned) {
      if (summary.failures.length >= FAILURES_MAX) break;
      disk.advance(state.moment);
      const { untilNs } = disk;
      for (let each = promised[next]; each !== undefined; each = promised[next]) {
        if (untilNs !== null && each.ns >= untilNs) break;
        keep(promises, each);
        next += 1;
      }
      if (only !== null && state.index !== only) continue;
      // The whole record gets its share of the time.
      const share = (performance.now() - beginMs) / (options.secondsMax * 1000);
      if (share > (state.index + 1) / planned.length) {
        summary.leftOut += 1;
        continue;
      }
      const chance = pseudorandom(state.seed);
      const fresh = newState(disk, state.kind, chance, signatures);
      if (fresh === null) {
        summary.repeated += 1;
        continue;
      }
      const { sample, chosen } = fresh;
      const directory = await directories.make(chosen);
      const judge = new Judge(truth, member, chance);
      const points = state.index % DEEP_EVERY === 0 ? DEEP_POINTS : 0;
      const isMade = untilNs === null || recording.initNs < untilNs;
      const verdict = await judge.judge(directory, promises, points, isMade);
      summary.states += 1;
      summary.byKind[sample.kind] = (summary.byKind[sample.kind] ?? 0) + 1;
      summary.points += verdict.points;
      summary.frames += verdict.frames;
      summary.operationsUncertain += sample.uncertain;
      if (sample.uncertain > 0) summary.uncertainStates += 1;
      syncs.add(state.sync.index);
      if (verdict.violations.all.length > 0) {
        const failure = describe(state, disk, verdict.violations.all);
        summary.failures.push(failure);
        options.onFailure(failure);
      }
      if (only === null) await directories.remove(directory);
      else console.error(`the state is in ${directory}; opening it has changed it`);
    }
  } finally {
    if (only === null) await rm(root, { recursive: true, force: true });
  }
  summary.syncPoints = syncs.size;
  return summary;
}

/** What the writers saw decides whether the truth is true. Returns what is wrong with it. */
export async function judgeTruth(recording: Recording, seed: number): Promise<Violation[]> {
  const numbers = VOLUMES.map((_, number) => number);
  const oracle = new Oracle(
    recording.written,
    numbers.map(() => VOLUME_BYTES),
  );
  const promises = noPromises();
  for (const promised of recording.promised) keep(promises, promised);
  const ranges = [...promises.ordered.values()].filter(({ firstLsn, lastLsn }) => firstLsn <= lastLsn);
  const random = pseudorandom(seed);
  const wanted = Array.from({ length: ORACLE_POINTS }, (_, index) => {
    const { firstLsn, lastLsn } = ranges[index % ranges.length] ?? { firstLsn: 0n, lastLsn: 0n };
    return firstLsn + BigInt(Math.floor(random() * (Number(lastLsn - firstLsn) + 1)));
  });
  const violations: Violation[] = [];
  for await (const { lsn, contents } of replayAt(recording.memberDirectory, numbers, wanted)) {
    const images = numbers.map((number) => contents.get(number) ?? Buffer.alloc(0));
    for (const violation of oracle.judge(images, null).violations)
      violations.push({ promise: 'truth', text: `lsn:${lsn}: ${violation}` });
  }
  return violations;
}

function describe(state: PlannedState, disk: Disk, violations: Violation[]): Failure {
  const { names, contents } = disk.uncertain();
  const uncertain = [...names, ...contents].sort((left, right) => left.begin - right.begin);
  return {
    index: state.index,
    kind: state.kind,
    moment: state.moment,
    violations,
    operations: [
      `near ${describeOperation(state.sync)}`,
      ...uncertain.slice(-UNCERTAIN_SHOWN).map((operation) => `uncertain ${describeOperation(operation)}`),
    ],
  };
}

/** A state of this kind that was not there yet, else of another kind; null when none is found. */
function newState(
  disk: Disk,
  kind: SampleKind,
  chance: () => number,
  signatures: Signatures,
): { sample: Sample; chosen: DiskState } | null {
  for (const each of [kind, ...OTHER_KINDS]) {
    const sample = sampleState(disk, each, chance);
    const chosen = disk.choose(sample);
    if (signatures.add(chosen)) return { sample, chosen };
    if (sample.uncertain === 0) return null;
  }
  return null;
}

/** Tells states that were seen before. */
class Signatures {
  private readonly seen = new Set<string>();
  /** Of content that is certain, by file and version. */
  private readonly hashes = new Map<string, string>();

  /** Whether it is new. */
  add({ directories, files }: DiskState): boolean {
    const parts = files.map((file) => `${file.path} ${this.hash(file)}`);
    const signature = hashOf(Buffer.from([...directories, ...parts].join('\n')));
    if (this.seen.has(signature)) return false;
    this.seen.add(signature);
    return true;
  }

  private hash({ number, version, isCertain, content }: DiskFile): string {
    const key = `${number} ${version}`;
    const known = isCertain ? this.hashes.get(key) : undefined;
    if (known !== undefined) return known;
    const hash = hashOf(content());
    if (isCertain) this.hashes.set(key, hash);
    return hash;
  }
}
