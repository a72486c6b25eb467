/** One round of torture: real daemons, writers, faults one after the other; then every promise is checked. */
import { cp, mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatTime } from '../../proto/time.js';
import { Scratch } from '../scenario/scratch.js';
import { pseudorandom } from '../scenario/seed.js';
import { afterimage } from '../scenario/site.js';
import { Database, type DatabaseImage, type Ended } from './database.js';
import { differing } from './equality.js';
import { Load } from './load.js';
import { FAULTS, type FaultKind, type RoundPlan } from './plan.js';
import { PointJudge, takeSample, type Sample } from './points.js';
import { failedForNothing, pauseMs, pauseMsOf, unintendedPauseMs, type Strike } from './production.js';
import { nowNs, Striker } from './strike.js';
import { DATABASE, deviceOf, makeWorld, type World } from './world.js';

const WRITES_MIN = 10_000;
const OVERLAPPING_MIN = 0.25;
/** Of a write, in bytes: both are to be seen. */
const LENGTH_MIN = 512;
const LENGTH_MAX = 1 << 20;
/** Before the first fault. */
const WRITES_FIRST = 300;
/** A fault that nothing came upon is tried again. */
const STRIKE_TRIES = 3;
/** What a database has left behind meanwhile takes its time on a busy machine. */
const SETTLED_SECONDS_MAX = 120;
const DATABASE_POINTS = 3;
const SPOOL_POLL_MS = 100;
/** That a round tells of: what is broken shows at most points. */
const VIOLATIONS_MAX = 20;
/** An fsck is made of every so many rounds, and where files were hurt. */
const FSCK_EVERY = 3;
export interface Violation {
  promise: string;
  text: string;
}
interface Struck extends Strike {
  hasStruck: boolean;
  pauseMs: number;
}
/** The parts of a round, in order. */
export const PHASES = [
  'make',
  'start',
  'strike',
  'write',
  'settle',
  'database',
  'judge',
  'end',
  'fsck',
  'clean',
] as const;
export type Phase = (typeof PHASES)[number];
export interface RoundOutcome {
  faults: { kind: FaultKind; hasStruck: boolean; pauseMs: number; seconds: number }[];
  seconds: Record<Phase, number>;
  writes: number;
  /** The share of operations that overlapped another one in flight; null: the round did not get there. */
  overlapping: number | null;
  /** Retention has moved the bases. */
  isShortened: boolean;
  /** The spool has held something. */
  isSpooled: boolean;
  commits: number;
  points: number;
  /** Of them, those that were looked at under way, and once more in the end. */
  samples: number;
  pauseMs: number;
  /** Of an operation that met no fault that freezes or slows production on purpose. */
  unintendedPauseMs: number;
  /** Hosts that were lost when nothing was marked. */
  rested: number;
  /** That could be measured. */
  resyncs: number;
  bytesDiffering: number;
  bytesResynced: number;
  bytesOnWire: number;
  violations: Violation[];
  /** Where what is left of a round with violations was put. */
  kept: string | null;
}

export interface RoundOptions {
  image: DatabaseImage;
  /** Directory that what is left of a round goes to if it has violations; null: it is not kept. */
  keep: string | null;
  /** Longest that production may wait where no fault freezes or slows it on purpose; null: as long as it takes. */
  pauseMsMax: number | null;
}

export async function runRound(
  plan: RoundPlan,
  round: number,
  { image, keep, pauseMsMax }: RoundOptions,
): Promise<RoundOutcome> {
  const outcome: RoundOutcome = {
    seconds: Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<Phase, number>,
    ...{ faults: [], writes: 0, commits: 0, points: 0, samples: 0, pauseMs: 0, unintendedPauseMs: 0 },
    ...{ rested: 0, resyncs: 0, bytesDiffering: 0, bytesResynced: 0, bytesOnWire: 0 },
    overlapping: null,
    isShortened: false,
    isSpooled: false,
    violations: [],
    kept: null,
  };
  const report = (promise: string, text: string): void => {
    if (outcome.violations.length < VIOLATIONS_MAX) outcome.violations.push({ promise, text });
  };
  const failed = (what: string) => (thrown: unknown) =>
    report(what, thrown instanceof Error ? thrown.message : String(thrown));
  const scratch = await Scratch.create('torture');
  const run = new Round(scratch, plan, round, image, outcome, report);
  await run.run().catch(failed('run'));
  run.count();
  if (pauseMsMax !== null && outcome.unintendedPauseMs > pauseMsMax)
    report('R7', `production waited ${outcome.unintendedPauseMs.toFixed(0)} ms, and no fault meant it to`);
  if (outcome.violations.length > 0 && keep !== null) {
    await keepFiles(scratch, keep).catch(failed('keep'));
    outcome.kept = keep;
  }
  await scratch.clean().catch(failed('clean'));
  run.lap('clean');
  return outcome;
}

async function keepFiles(scratch: Scratch, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(scratch.directory)) {
    // What is mounted from the daemons themselves cannot be read when they are gone; their sockets cannot be copied.
    if (name === 'run' || name === 'mnt' || name.endsWith('.operations')) continue;
    await cp(scratch.path(name), path.join(directory, name), { recursive: true }).catch(() => undefined);
  }
}

class Round {
  private readonly random: () => number;
  private readonly struck: Struck[] = [];
  private readonly samples: Sample[] = [];
  private readonly around: bigint[] = [];
  private lapMs = performance.now();

  constructor(
    private readonly scratch: Scratch,
    private readonly plan: RoundPlan,
    private readonly round: number,
    private readonly image: DatabaseImage,
    private readonly outcome: RoundOutcome,
    private readonly report: (promise: string, text: string) => void,
  ) {
    this.random = pseudorandom(plan.seed);
  }

  async run(): Promise<void> {
    const { plan, outcome } = this;
    const world = await makeWorld(this.scratch, plan, this.image);
    this.lap('make');
    // The agent finds its receiver when that is there.
    await Promise.all([world.site.receiver.start(), world.site.agent.start()]);
    const ready = await world.control.settled(SETTLED_SECONDS_MAX);
    const { oldestLsn } = await world.control.receiverGroup();
    const database = await Database.start(this.scratch, deviceOf(ready, DATABASE));
    const load = new Load(world, plan.seed % 2 ** 20);
    load.start(ready);
    await load.reaches(WRITES_FIRST);
    this.lap('start');
    const striker = new Striker(world, load, database, this.random, this.report);
    const over = new AbortController();
    const watching = plan.spoolBytes === null ? null : this.watchSpool(world, over.signal);
    try {
      await this.strikeAll(world, striker);
    } finally {
      over.abort();
      await watching;
    }
    this.lap('strike');
    await load.reaches(WRITES_MIN);
    await load.stop();
    this.lap('write');
    outcome.writes = load.writes;
    outcome.rested = striker.rested;
    outcome.resyncs = striker.resyncs.length;
    for (const { bytesDiffering, bytesResynced, bytesOnWire, violation } of striker.resyncs) {
      outcome.bytesDiffering += bytesDiffering;
      outcome.bytesResynced += bytesResynced;
      outcome.bytesOnWire += bytesOnWire;
      if (violation !== null) this.report('R8', violation);
    }
    this.judgeLoad(load);
    this.judgeProduction(load, striker.deathsNs);
    const ended = await database.end();
    const settled = await world.control.settled(SETTLED_SECONDS_MAX);
    this.lap('settle');
    await this.judgeDatabase(world, database, ended);
    this.lap('database');
    if (!plan.mayBreak) await this.judgeContinuity(world, ready.generation, settled.generation);
    const judge = new PointJudge(world, load.operations, this.random, this.report);
    outcome.overlapping = judge.overlapping();
    if (outcome.overlapping < OVERLAPPING_MIN)
      this.report('load', `only ${outcome.overlapping} overlapped in flight`);
    await judge.judge(this.samples, this.around);
    outcome.points = judge.count;
    outcome.samples = judge.samples;
    await this.judgeEquality(world);
    await this.judgeDeaths(striker);
    outcome.isShortened = (await world.control.receiverGroup()).oldestLsn > oldestLsn;
    if (outcome.isShortened && !plan.isHistoryShort)
      this.report('R6', 'history was shortened, and is far younger than what is to be kept');
    this.lap('judge');
    await this.stop(world);
  }

  /** What has passed since the last one belongs to `phase`. */
  lap(phase: Phase): void {
    const nowMs = performance.now();
    this.outcome.seconds[phase] += (nowMs - this.lapMs) / 1000;
    this.lapMs = nowMs;
  }

  /** What struck, also in a round that did not come to its end. */
  count(): void {
    this.outcome.faults = this.struck.map(({ kind, beginNs, endNs, hasStruck, pauseMs }) => {
      return { kind, hasStruck, pauseMs, seconds: Number(endNs - beginNs) / 1e9 };
    });
  }

  private async strikeAll(world: World, striker: Striker): Promise<void> {
    for (const kind of this.plan.faults) {
      const [sample] = await Promise.all([takeSample(world), sleep(50 + this.random() * 250)]);
      if (sample !== null) this.samples.push(sample);
      const beginNs = nowNs();
      let hasStruck = false;
      for (let tries = 0; tries < STRIKE_TRIES && !hasStruck; tries += 1)
        hasStruck = await striker.strike(kind).catch((thrown: unknown) => {
          const text = thrown instanceof Error ? thrown.message : String(thrown);
          throw new Error(`${kind}: ${text}`, { cause: thrown });
        });
      this.struck.push({ kind, beginNs, endNs: nowNs(), hasStruck, pauseMs: 0 });
      const after = await world.control.agentGroup().catch(() => null);
      if (after !== null) this.around.push(after.durableLsn, after.capturedLsn);
    }
  }

  private async watchSpool({ control }: World, over: AbortSignal): Promise<void> {
    while (!over.aborted && !this.outcome.isSpooled) {
      const group = await control.agentGroup().catch(() => null);
      this.outcome.isSpooled = group !== null && group.spoolUsedBytes > 0n;
      await sleep(SPOOL_POLL_MS);
    }
  }

  /** That the round was worth its name, and not that a writer had gone quiet. */
  private judgeLoad({ operations }: Load): void {
    const done = operations.filter(({ errno }) => errno === 0);
    for (const kind of ['trim', 'zero', 'flush'] as const)
      if (!done.some((operation) => operation.kind === kind)) this.report('load', `there was no ${kind}`);
    const lengths = done.filter(({ kind }) => kind === 'write').map(({ length }) => length);
    if (lengths.length < WRITES_MIN) this.report('load', `only ${lengths.length} writes`);
    for (const length of [LENGTH_MIN, LENGTH_MAX])
      if (!lengths.includes(length)) this.report('load', `there was no write of ${length} bytes`);
  }

  /** R7, and how long it waited. */
  private judgeProduction({ operations }: Load, deathsNs: readonly bigint[]): void {
    const struck = this.struck.filter(({ hasStruck }) => hasStruck);
    const [first, ...others] = failedForNothing(operations, struck);
    if (first !== undefined) {
      const at = formatTime(first.submitNs);
      this.report(
        'R7',
        `${1 + others.length} operations failed, and no fault allows it; the first, a ${first.kind} of ${at}, with errno ${first.errno}`,
      );
    }
    this.outcome.pauseMs = pauseMs(operations, 0n, 1n << 63n);
    this.outcome.unintendedPauseMs = unintendedPauseMs(operations, this.struck, deathsNs);
    for (const strike of this.struck) strike.pauseMs = pauseMsOf(operations, strike);
  }

  private async judgeDatabase({ control }: World, database: Database, ended: Ended): Promise<void> {
    const { mayBreak } = this.plan;
    this.outcome.commits = ended.commits.length;
    if (ended.commits.length === 0) this.report('load', 'the database committed nothing');
    for (const text of ended.complaints) this.report('R7', `database: ${text}`);
    for (const text of await database.judge(ended, control, DATABASE, DATABASE_POINTS, mayBreak, this.random))
      this.report('R3', `database: ${text}`);
  }

  /** No gap and no resync, whatever died. */
  private async judgeContinuity({ control }: World, before: bigint, after: bigint): Promise<void> {
    if (before !== after) this.report('R8', `generation ${after}, which was ${before}`);
    const grades = (await control.timeline())
      .map(({ grade }) => grade)
      .filter((grade) => grade !== 'syncing');
    if (grades.join() !== 'ordered') this.report('R5', `one ordered stretch was to be had: ${grades.join()}`);
  }

  private async judgeEquality(world: World): Promise<void> {
    for (const name of await differing(world, [...world.stamped, world.database]))
      this.report('R2', `${name}: the latest point is not what the backing holds`);
  }

  /** Nobody ended by himself, to be started again as if nothing had been. */
  private async judgeDeaths({ endings }: Striker): Promise<void> {
    const log = await readFile(this.scratch.path('agent.log'), 'utf8');
    const ends = [...log.matchAll(/ ended with (.*); \d+ descriptors wait/g)].map(([, how = '']) => how);
    // SIGUSR2, 12, ends an agent that has only begun to start: so it was asked for too.
    const others = ends.filter((how) => how !== 'signal 9' && how !== 'signal 12');
    if (others.length > 0) this.report('R7', `agents ended with ${others.join(', ')}`);
    if (ends.length > endings) this.report('R7', `${ends.length} agents ended, and ${endings} were to`);
  }

  /** Both end in order; then the store is looked at by itself. */
  private async stop({ site }: World): Promise<void> {
    for (const daemon of [site.agent, site.receiver]) await daemon.end();
    this.lap('end');
    const isHurt = this.plan.faults.some((kind) => 'store' in FAULTS[kind]);
    if (this.round % FSCK_EVERY !== 0 && !isHurt) return;
    const { status, stdout } = await afterimage(['receiver', 'fsck', site.store, '--json'], ANY);
    if (status !== 0) this.report('R6', `fsck ends with ${status}: ${stdout.slice(0, 2000)}`);
    this.lap('fsck');
  }
}

const ANY = Array.from({ length: 256 }, (_, status) => status);
