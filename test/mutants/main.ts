/**
 * Mutation: each invariant is broken on purpose, and the tests that speak about it have to notice (mutant.ts). First the
 * control: the same builds without sabotage must pass the same tests, and say how long those take.
 * `scripts/mutants [--quick|--torture] [NAME…]`; --quick judges one mutant a day end to end, and every fourth by the native tests;
 * --torture judges by torture alone those that it can see.
 */
import path from 'node:path';
import { addon, nativeTests, sabotages } from './addon.js';
import { compiled } from './compiled.js';
import { runNative, runScenario, runTorture, secondsMax, type Build, type Run } from './judge.js';
import { CONTROL, MUTANTS, type Mutant } from './mutant.js';

/** Seconds of a control run: as long as a whole step may take. */
const CONTROL_SECONDS_MAX = 600;

const DIST = 'dist';

/** What became of one mutant before one judge: what failed, or why that is no catch. */
type Verdict = { isCaught: boolean; by: string };

function verdict(mutant: Mutant, run: Run, isOurs: (failure: string) => boolean): Verdict {
  if (run.ended === 'passed') return { isCaught: false, by: 'SURVIVED' };
  // Also of a run that did not end by itself: what failed before had failed.
  const failure = run.failures.find(isOurs);
  if (failure !== undefined) return { isCaught: true, by: failure };
  if (run.ended === 'crash' || run.ended === 'time-out')
    return { isCaught: mutant.mayEnd === run.ended, by: `${run.ended} after ${run.seconds.toFixed(0)} s` };
  const others = (run.failures.length > 0 ? run.failures.join('; ') : run.output).slice(-2000);
  return { isCaught: false, by: `only other things failed: ${others}` };
}

/** Runs what must pass without sabotage; the seconds that it took. */
function control(name: string, run: Run): number {
  const leftOut = /# SKIP|not run:/.exec(run.output);
  if (run.ended !== 'passed' || leftOut !== null)
    throw new Error(`control: without sabotage this does not pass: ${name}\n${run.output.slice(-4000)}`);
  console.log(`control  ${run.seconds.toFixed(1).padStart(6)} s  ${name}`);
  return run.seconds;
}

const quick = process.argv.includes('--quick');
const byTorture = process.argv.includes('--torture');
const names = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const chosen = MUTANTS.filter((mutant) => names.length === 0 || names.includes(mutant.name));
if (chosen.length < names.length)
  throw new Error(`mutants: ${MUTANTS.map((mutant) => mutant.name).join(', ')}`);
const inSources = [...sabotages().keys()].sort().join(', ');
if (
  inSources !==
  MUTANTS.filter((mutant) => mutant.texts === undefined)
    .map((mutant) => mutant.name)
    .sort()
    .join(', ')
)
  throw new Error(`the sources know other sabotages than mutant.ts: ${inSources}`);

const DAY = Math.floor(Date.now() / 86_400_000);
const nativeOnes = chosen.filter((mutant) => !byTorture && mutant.native.length > 0);
const withNative = nativeOnes.filter((_, at) => !quick || names.length > 0 || at % 4 === DAY % 4);
const withScenario = chosen.filter((mutant) => !byTorture && mutant.scenario !== null);
const withTorture = chosen.filter((mutant) => byTorture && mutant.torture !== undefined);
const ofToday = withScenario[DAY % Math.max(1, withScenario.length)];
const endToEnd = quick ? withScenario.filter((mutant) => mutant === ofToday) : withScenario;

const seconds = new Map<string, number>();
const healthyTests = withNative.length > 0 ? await nativeTests(CONTROL) : '';
for (const name of new Set(withNative.flatMap((mutant) => mutant.native)))
  seconds.set(name, control(name, await runNative(healthyTests, name, CONTROL_SECONDS_MAX)));
if (endToEnd.length > 0) {
  const healthy = { addon: await addon(CONTROL), dist: DIST };
  for (const file of new Set(endToEnd.map((mutant) => mutant.scenario?.file ?? ''))) {
    const run = await runScenario(healthy, file, CONTROL_SECONDS_MAX);
    seconds.set(file, control(file, run));
    for (const { name, scenario } of endToEnd) {
      // An assertion that was given another name catches nothing any more.
      if (scenario?.file === file && !run.passes.some((pass) => scenario.assertion.test(pass)))
        throw new Error(`control: ${file} asserts nothing that ${name} waits for: ${scenario.assertion}`);
    }
  }
}

const missed: string[] = [];
function report(mutant: Mutant, judge: string, { isCaught, by }: Verdict): boolean {
  console.log(
    `${mutant.breaks}  ${mutant.name.padEnd(25)} ${isCaught ? 'caught' : 'NOT CAUGHT'} by ${judge}: ${by}`,
  );
  if (!isCaught) missed.push(mutant.name);
  return isCaught;
}

function build({ name, texts }: Mutant): Promise<Build> | Build {
  if (texts !== undefined)
    return { addon: path.resolve('build/Release/afterimage.node'), dist: compiled(name, texts) };
  return addon(name).then((file) => ({ addon: file, dist: DIST }));
}

if (withTorture.length > 0) control('torture', await runTorture({ addon: await addon(CONTROL), dist: DIST }));

let caughtNatively = 0;
let caughtEndToEnd = 0;
for (const mutant of byTorture ? [] : chosen) {
  const own = withNative.includes(mutant) ? mutant.native : [];
  const tests = own.length > 0 ? await nativeTests(mutant.name) : '';
  let isCaught = own.length > 0;
  for (const name of own) {
    const run = await runNative(tests, name, secondsMax(seconds.get(name) ?? 0));
    isCaught =
      report(
        mutant,
        'test/native',
        verdict(mutant, run, () => true),
      ) && isCaught;
  }
  if (isCaught) caughtNatively += 1;
  const { scenario } = mutant;
  if (scenario === null || !endToEnd.includes(mutant)) continue;
  const { file, assertion } = scenario;
  const run = await runScenario(await build(mutant), file, secondsMax(seconds.get(file) ?? 0));
  if (
    report(
      mutant,
      file,
      verdict(mutant, run, (name) => assertion.test(name)),
    )
  )
    caughtEndToEnd += 1;
}
let caughtByTorture = 0;
for (const mutant of withTorture) {
  const isExpected = (failure: string): boolean => mutant.torture?.test(failure) === true;
  if (report(mutant, 'torture', verdict(mutant, await runTorture(await build(mutant)), isExpected)))
    caughtByTorture += 1;
}
const left = [
  ...(withNative.length < nativeOnes.length
    ? [`${nativeOnes.length - withNative.length} not judged by native tests`]
    : []),
  ...(endToEnd.length < withScenario.length
    ? [`${withScenario.length - endToEnd.length} not judged end to end`]
    : []),
];
console.log(
  byTorture
    ? `mutants: ${caughtByTorture} of ${withTorture.length} caught by torture`
    : `mutants: ${caughtNatively} of ${withNative.length} caught by native tests, ` +
        [`${caughtEndToEnd} of ${endToEnd.length} end to end`, ...left].join(', '),
);
process.exitCode = missed.length === 0 ? 0 : 1;
