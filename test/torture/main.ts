/**
 * Torture: `npm run torture -- [--seed N] [--seconds S] [--rounds N] [--round K] [--strikes-min M] [--pause-ms-max N]
 * [--until-violation] [--json]`. Round after round until S seconds are over or N rounds are done, or until the first with a
 * violation: real daemons under load, faults, then every promise is checked (round.ts). With --pause-ms-max a round is
 * violated in which production waited longer than N ms where no fault froze or slowed it on purpose: only a quiet machine can
 * promise that. With --round only that round of the seed, which is made again in the same way. Progress goes to standard
 * error; the last line is a summary, with --json all of it. A violation names seed and round; what is left of its round is
 * kept. Exit status: 0, or 1 with any violation, or when a kind of fault struck less than M times, or was planned twice and
 * never struck, or eight rounds had no sample or no resync, or 32 no history that was shortened, no spool that was used, or no
 * host that was lost when nothing was marked.
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { command } from '../scenario/command.js';
import { Scratch } from '../scenario/scratch.js';
import { DatabaseImage } from './database.js';
import { DEAL_ROUNDS, FAULTS, planRound, type FaultKind, type RoundPlan } from './plan.js';
import { PHASES, runRound, type Phase, type RoundOutcome } from './round.js';
import { buildStampWriter } from './stamp_writer.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Date.now() / 86_400_000)) },
    seconds: { type: 'string', default: '3600' },
    rounds: { type: 'string', default: '1000000' },
    round: { type: 'string' },
    'strikes-min': { type: 'string', default: '0' },
    'pause-ms-max': { type: 'string' },
    'until-violation': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
/** Rounds of which what is left is kept. */
const KEPT_MAX = 5;
/** In so many, histories were shortened, spools were used, and a host was lost when nothing was marked. */
const LONG_ROUNDS = 4 * DEAL_ROUNDS;
/** A kind of fault that came up so often has struck once. */
const PLANNED_TO_STRIKE = 2;
const seed = Number(values.seed);
const secondsMax = Number(values.seconds);
const strikesMin = Number(values['strikes-min']);
const pauseMsMax = values['pause-ms-max'] === undefined ? null : Number(values['pause-ms-max']);
const only = values.round === undefined ? null : Number(values.round);
const say = (text: string): void => console.error(`torture: ${text}`);

interface FaultTotal {
  planned: number;
  struck: number;
  /** Of all that took, whether they struck or not. */
  seconds: number;
  pauseMsMax: number;
}

const summary = {
  seed,
  commit: (await command('git', ['rev-parse', 'HEAD'], { accept: [128] })).stdout.trim(),
  rounds: 0,
  faults: Object.fromEntries(
    Object.keys(FAULTS).map((kind) => [kind, { planned: 0, struck: 0, seconds: 0, pauseMsMax: 0 }]),
  ) as Record<FaultKind, FaultTotal>,
  /** Faults that struck less often than was asked for; and what a deal of rounds has some of, and there was none. */
  tooFew: [] as string[],
  violations: [] as { seed: number; round: number; promise: string; text: string }[],
  writes: 0,
  /** Of a round: the least share of operations that overlapped another one in flight. */
  overlappingMin: 1,
  commits: 0,
  points: 0,
  /** Of them, those that were looked at under way, and once more in the end. */
  samples: 0,
  /** Rounds in which retention moved the bases. */
  shortened: 0,
  /** Rounds in which a spool held something. */
  spooled: 0,
  /** Hosts that were lost when nothing was marked any more. */
  rested: 0,
  longestPauseMs: 0,
  /** Where no fault froze or slowed production on purpose. */
  longestUnintendedPauseMs: 0,
  /** Resyncs that could be measured, and what of the volumes differed before them. */
  resyncs: 0,
  bytesDiffering: 0,
  bytesResynced: 0,
  bytesOnWire: 0,
  seconds: 0,
  secondsByPhase: Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<Phase, number>,
};

function add(round: number, plan: RoundPlan, outcome: RoundOutcome): void {
  summary.rounds += 1;
  for (const kind of plan.faults) summary.faults[kind].planned += 1;
  for (const { kind, hasStruck, pauseMs, seconds } of outcome.faults) {
    const total = summary.faults[kind];
    total.seconds += seconds;
    if (!hasStruck) continue;
    total.struck += 1;
    total.pauseMsMax = Math.round(Math.max(total.pauseMsMax, pauseMs));
  }
  for (const phase of PHASES) summary.secondsByPhase[phase] += outcome.seconds[phase];
  summary.violations.push(...outcome.violations.map((violation) => ({ seed, round, ...violation })));
  for (const key of [
    'writes',
    'commits',
    'points',
    'samples',
    'rested',
    'resyncs',
    'bytesDiffering',
    'bytesResynced',
    'bytesOnWire',
  ] as const)
    summary[key] += outcome[key];
  if (outcome.isShortened) summary.shortened += 1;
  if (outcome.isSpooled) summary.spooled += 1;
  summary.overlappingMin = Math.min(summary.overlappingMin, outcome.overlapping ?? 1);
  summary.longestPauseMs = Math.round(Math.max(summary.longestPauseMs, outcome.pauseMs));
  summary.longestUnintendedPauseMs = Math.round(
    Math.max(summary.longestUnintendedPauseMs, outcome.unintendedPauseMs),
  );
}

function tell(round: number, seconds: number, outcome: RoundOutcome): void {
  const { faults, writes, points, pauseMs, unintendedPauseMs, violations, kept } = outcome;
  const phases = PHASES.map((phase) => `${phase} ${outcome.seconds[phase].toFixed(1)}`).join(', ');
  const kinds = faults.map(({ kind, hasStruck }) => (hasStruck ? kind : `(${kind})`)).join(', ');
  say(
    `round ${round}: ${seconds.toFixed(1)} s, ${writes} writes, ${points} points, ` +
      `longest pause ${pauseMs.toFixed(0)} ms, ${unintendedPauseMs.toFixed(0)} unintended: ${kinds} (${phases})`,
  );
  if (violations.length === 0) return;
  for (const { promise, text } of violations) say(`seed ${seed}, round ${round}: ${promise}: ${text}`);
  say(`  npm run torture -- --seed ${seed} --round ${round}${kept === null ? '' : `; kept in ${kept}`}`);
}

await buildStampWriter();
const begin = performance.now();
const secondsSince = (from: number): number => (performance.now() - from) / 1000;
const scratch = await Scratch.create('torture-run');
try {
  const image = await DatabaseImage.make(scratch);
  let keptRounds = 0;
  for (let round = only ?? 0; summary.rounds < Number(values.rounds); round += 1) {
    if (secondsSince(begin) > secondsMax) break;
    const plan = planRound(seed, round);
    const keep = path.join(os.tmpdir(), `torture-kept-${seed}-${round}`);
    const roundBegin = performance.now();
    say(
      `round ${round}: ${plan.volumes}, store ${plan.store}, ring ${plan.ringBytes}${plan.spoolBytes === null ? '' : ' and spool'}: ${plan.faults.join(', ')}`,
    );
    const options = { image, keep: keptRounds < KEPT_MAX ? keep : null, pauseMsMax };
    const outcome = await runRound(plan, round, options);
    if (outcome.kept !== null) keptRounds += 1;
    add(round, plan, outcome);
    tell(round, secondsSince(roundBegin), outcome);
    if (only !== null || (values['until-violation'] && summary.violations.length > 0)) break;
  }
} finally {
  await scratch.clean();
}
summary.seconds = Math.round(secondsSince(begin));
summary.overlappingMin = Math.round(summary.overlappingMin * 1000) / 1000;
const tenths = (seconds: number): number => Math.round(seconds * 10) / 10;
for (const phase of PHASES) summary.secondsByPhase[phase] = tenths(summary.secondsByPhase[phase]);
for (const [kind, total] of Object.entries(summary.faults) as [FaultKind, FaultTotal][]) {
  total.seconds = tenths(total.seconds);
  // One that misses now and then is as it should be; one that never comes upon anything is no fault any more.
  const isMissing = total.struck === 0 && total.planned >= PLANNED_TO_STRIKE;
  if (total.struck < strikesMin || isMissing) summary.tooFew.push(kind);
}
if (summary.rounds >= DEAL_ROUNDS)
  for (const what of ['samples', 'resyncs'] as const) if (summary[what] === 0) summary.tooFew.push(what);
for (const what of ['shortened', 'spooled', 'rested'] as const)
  if (summary.rounds >= LONG_ROUNDS && summary[what] === 0) summary.tooFew.push(what);
if (summary.tooFew.length > 0)
  say(`struck less than ${strikesMin} times, or never: ${summary.tooFew.join(', ')}`);
const { violations, ...figures } = summary;
if (values.json) {
  console.log(JSON.stringify({ ...figures, violations }));
} else {
  for (const { round, promise, text } of violations) console.log(`round ${round}: ${promise}: ${text}`);
  const struck = Object.values(summary.faults).reduce((sum, total) => sum + total.struck, 0);
  console.log(
    `seed ${seed}: ${summary.rounds} rounds in ${summary.seconds} s, ${struck} faults, ${summary.writes} writes, ` +
      `${summary.points} points, longest pause ${summary.longestPauseMs} ms, ${summary.longestUnintendedPauseMs} unintended, ${violations.length} violations`,
  );
}
process.exitCode = violations.length === 0 && summary.tooFew.length === 0 ? 0 : 1;
