/**
 * The proof for R3 to R6 and R8 under power loss: what was recorded of a site is played back, and at many moments states
 * that its disk may hold are made and opened.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describeOperation } from '../fault/operation_log.js';
import { Oracle } from '../scenario/oracle.js';
import type { Scratch } from '../scenario/scratch.js';
import { pseudorandom } from '../scenario/seed.js';
import { tmpfs } from '../scenario/tmpfs.js';
import { replayAt } from '../replay/replay.js';
import { Disk, type DiskFile, type DiskState } from './disk.js';
import { Judge } from './judge.js';
import { planStates, POINTS_MIN, type PlannedState } from './plan.js';
import { keep, noPromises } from './promises.js';
import { VOLUME_BYTES, VOLUMES, type Recording } from './recording.js';
import { sampleState, SAMPLE_KINDS, type Sample, type SampleKind } from './sampler.js';
import { recordOpening } from './second_loss.js';
import { StateDirectories } from './state_directory.js';
import { hashOf, Truth } from './truth.js';
import type { Verdict, Violation } from './verdict.js';

export interface Failure {
  /** "17.0": state 17 of the plan, at the first attempt to find one that was not there before. */
  state: string;
  kind: string;
  moment: number;
  violations: Violation[];
  /** What was under way: the sync that the state lies next to, and what was uncertain. */
  operations: string[];
}
export interface Summary {
  /** Opened, no two of them alike. */
  states: number;
  /** Of them, after power was lost again while a receiver opened the first. */
  secondStates: number;
  /** Not opened: no other than those that were could be found at the moment. */
  repeated: number;
  /** Not opened for want of time. */
  leftOut: number;
  syncPoints: number;
  byKind: Record<string, number>;
  /** States in which something was uncertain. */
  uncertainStates: number;
  operationsUncertain: number;
  /** States in which a write had arrived in part, and in which renames, or truncations, were uncertain. */
  torn: number;
  renames: number;
  truncations: number;
  points: number;
  frames: number;
  /** Extents that the dirty logs had to mark; and that they did not, which had to be equal at both ends. */
  marked: number;
  unmarked: number;
  failures: Failure[];
}
export interface ProofOptions {
  seed: number;
  states: number;
  /** Only the state of that name ("17.0"), which stays. */
  only: string | null;
  /** Of opening states. */
  secondsMax: number;
  onFailure: (failure: Failure) => void;
}

/** Points of the truth that the oracle of the writers judges. */
const ORACLE_POINTS = 12;
/** In one state of so many, more points are compared. */
const DEEP_EVERY = 4;
const DEEP_POINTS = 3;
/** Of so many states one is opened on a disk that loses power again, and so many states of that are opened. */
const SECOND_EVERY = 97;
const SECOND_STATES = 16;
const FAILURES_MAX = 20;
const UNCERTAIN_SHOWN = 12;
/** Tried where the planned kind gives nothing new. */
const OTHER_KINDS: readonly SampleKind[] = ['torn', 'subset', 'tornLast', 'torn', 'all', 'none'];

/** Opens the states of a recording. What it leaves in the scratch directory goes with that. */
export async function prove(scratch: Scratch, recording: Recording, options: ProofOptions): Promise<Summary> {
  const sizes = new Map(VOLUMES.map((_, number) => [number, VOLUME_BYTES]));
  const truth = await Truth.read(recording.memberDirectory, sizes, recording.baseLsns);
  // A state that was asked for by name stays.
  const root =
    options.only === null
      ? await tmpfs(scratch, 'states')
      : await mkdtemp(path.join(os.tmpdir(), 'afterimage-states-'));
  return new Proof(scratch, recording, options, truth, new StateDirectories(root)).run();
}

class Proof {
  private readonly summary: Summary = {
    states: 0,
    secondStates: 0,
    repeated: 0,
    leftOut: 0,
    syncPoints: 0,
    byKind: Object.fromEntries(SAMPLE_KINDS.map((kind) => [kind, 0])),
    uncertainStates: 0,
    operationsUncertain: 0,
    torn: 0,
    renames: 0,
    truncations: 0,
    points: 0,
    frames: 0,
    marked: 0,
    unmarked: 0,
    failures: [],
  };
  private readonly signatures = new Signatures();
  private readonly syncs = new Set<number>();
  private readonly promises = noPromises();
  /** `group/member`, as paths and catalog have them. */
  private readonly member: string;

  constructor(
    private readonly scratch: Scratch,
    private readonly recording: Recording,
    private readonly options: ProofOptions,
    private readonly truth: Truth,
    private readonly directories: StateDirectories,
  ) {
    this.member = recording.memberDirectory.split(path.sep).slice(-2).join('/');
  }

  async run(): Promise<Summary> {
    const { seed, states, secondsMax, only } = this.options;
    // SQLite makes this one anew whenever a first process opens the database.
    const operations = this.recording.operations.filter(({ path: name }) => !name.endsWith('-shm'));
    const planned = planStates(operations, states, POINTS_MIN, pseudorandom(seed));
    const promised = [...this.recording.promised].sort((left, right) => (left.ns < right.ns ? -1 : 1));
    const disk = new Disk(operations);
    const beginMs = performance.now();
    let next = 0;
    for (const state of planned) {
      if (this.summary.failures.length >= FAILURES_MAX) break;
      disk.advance(state.moment);
      const { untilNs } = disk;
      for (let each = promised[next]; each !== undefined; each = promised[next]) {
        if (untilNs !== null && each.ns >= untilNs) break;
        keep(this.promises, each);
        next += 1;
      }
      if (only !== null && Math.floor(Number(only)) !== state.index) continue;
      // The whole record gets its share of the time.
      const share = (performance.now() - beginMs) / (secondsMax * 1000);
      if (share > (state.index + 1) / planned.length) {
        this.summary.leftOut += 1;
        continue;
      }
      const isMade = untilNs === null || this.recording.initNs < untilNs;
      const made = this.newState(disk, state, only);
      if (made === null) this.summary.repeated += 1;
      else await this.open(disk, made, isMade);
    }
    this.summary.syncPoints = this.syncs.size;
    return this.summary;
  }

  private async open(disk: Disk, made: MadeState, isMade: boolean): Promise<void> {
    const { state, chosen } = made;
    const { index } = state;
    let directory = await this.directories.make(chosen);
    await this.judge(disk, made, directory, isMade);
    if (this.options.only !== null) {
      console.error(`the state is in ${directory}; opening it has changed it`);
    } else {
      await this.directories.remove(directory);
    }
    this.syncs.add(state.sync.index);
    if (index % SECOND_EVERY !== 0) return;
    directory = await this.directories.make(chosen);
    const root = await mkdtemp(path.join(this.directories.directory, 'second-'));
    const directories = new StateDirectories(root);
    const second = await recordOpening(this.scratch, `second-${index}`, chosen, directory, async (mount) => {
      await this.verdict(made, mount, isMade);
    });
    await this.directories.remove(directory);
    for (const again of planStates(second.operations, SECOND_STATES, 0, pseudorandom(state.seed))) {
      second.disk.advance(again.moment);
      const next = this.newState(second.disk, again, null);
      if (next === null) continue;
      const left = await directories.make(next.chosen);
      this.summary.secondStates += 1;
      await this.judge(second.disk, { ...next, name: `${made.name} and ${next.name}` }, left, isMade);
      await directories.remove(left);
    }
    await rm(root, { recursive: true, force: true });
  }

  private verdict({ state }: MadeState, directory: string, isMade: boolean): Promise<Verdict> {
    const judge = new Judge(this.truth, this.member, pseudorandom(state.seed));
    const points = state.index % DEEP_EVERY === 0 ? DEEP_POINTS : 0;
    return judge.judge(directory, this.promises, points, isMade);
  }

  private async judge(disk: Disk, made: MadeState, directory: string, isMade: boolean): Promise<void> {
    const { summary } = this;
    const { state, sample, name } = made;
    const verdict = await this.verdict(made, directory, isMade);
    summary.states += 1;
    summary.byKind[sample.kind] = (summary.byKind[sample.kind] ?? 0) + 1;
    summary.points += verdict.points;
    summary.frames += verdict.frames;
    summary.marked += verdict.marked;
    summary.unmarked += verdict.unmarked;
    const { uncertain } = sample;
    summary.operationsUncertain += uncertain.length;
    if (uncertain.length > 0) summary.uncertainStates += 1;
    if (sample.isTorn()) summary.torn += 1;
    if (uncertain.some(({ kind }) => kind === 'rename')) summary.renames += 1;
    if (uncertain.some(({ kind }) => kind === 'truncate')) summary.truncations += 1;
    const { all } = verdict.violations;
    if (all.length === 0) return;
    const failure = { state: name, kind: sample.kind, moment: state.moment, violations: all };
    const operations = surroundings(state, disk);
    summary.failures.push({ ...failure, operations });
    this.options.onFailure({ ...failure, operations });
  }

  /**
   * A state of the planned kind that was not there yet, else of another kind; null when none is found. `only`: the one of
   * that name, whatever was there before.
   */
  private newState(disk: Disk, state: PlannedState, only: string | null): MadeState | null {
    for (const [attempt, kind] of [state.kind, ...OTHER_KINDS].entries()) {
      const name = `${state.index}.${attempt}`;
      if (only !== null && only !== name) continue;
      const sample = sampleState(disk, kind, pseudorandom(state.seed + attempt), state.sync);
      const chosen = disk.choose(sample);
      if (this.signatures.add(chosen)) return { name, state, sample, chosen };
      if (sample.uncertain.length === 0) return null;
    }
    return null;
  }
}

interface MadeState {
  name: string;
  state: PlannedState;
  sample: Sample;
  chosen: DiskState;
}

/** What the writers saw decides whether the truth is true. Returns what is wrong with it. */
export async function judgeTruth(recording: Recording, seed: number): Promise<Violation[]> {
  const { memberDirectory, baseLsns } = recording;
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
  for await (const { lsn, contents } of replayAt(memberDirectory, numbers, wanted, baseLsns)) {
    const images = numbers.map((number) => contents.get(number) ?? Buffer.alloc(0));
    for (const violation of oracle.judge(images, null).violations)
      violations.push({ promise: 'truth', text: `lsn:${lsn}: ${violation}` });
  }
  return violations;
}

function surroundings({ sync }: PlannedState, disk: Disk): string[] {
  const { names, contents } = disk.uncertain();
  const uncertain = [...names, ...contents].sort((left, right) => left.begin - right.begin);
  return [
    `near ${describeOperation(sync)}`,
    ...uncertain.slice(-UNCERTAIN_SHOWN).map((operation) => `uncertain ${describeOperation(operation)}`),
  ];
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

  private hash({ key: file, version, isCertain, content }: DiskFile): string {
    const key = `${file} ${version}`;
    const known = isCertain ? this.hashes.get(key) : undefined;
    if (known !== undefined) return known;
    const hash = hashOf(content());
    if (isCertain) this.hashes.set(key, hash);
    return hash;
  }
}
