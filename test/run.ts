/**
 * Runs the test steps one after the other, says how long each took and what it counted, and ends with one line
 * `N passed, N failed`, and `N skipped` where a test was left out. As root none may be: what is missing fails, but for the
 * kernels of test/vm, which nothing can install where the package sources do not have them.
 * `node dist/test/run.js [--list] [NAME…]`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { isRoot } from './prerequisite.js';
import { demo, doctest, single, tap, total } from './step_count.js';
import type { Count, Counter } from './step_count.js';

interface Step {
  name: string;
  /** Minutes that it may take at most before it is stopped and counted as failed. */
  minutesMax: number;
  command: string;
  args: string[];
  count: Counter;
  /** False: only when it is named. */
  isDue?: boolean;
}
function tapFiles(...directories: string[]): string[] {
  return directories.flatMap((directory) => {
    const full = path.join('dist/test', directory);
    const files = readdirSync(full, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.test.js'),
    );
    if (files.length === 0) throw new Error(`${full} has no tests`); // tap without a file would run everything
    return files.sort().map((file) => path.join(full, file));
  });
}

/** The seed moves on with each day, so that CI gets through more than fits one run. */
const DAY = Math.floor(Date.now() / 86_400_000);

const isHostDay = DAY % 3 === 0;

/** Every `of`th of them, others tomorrow. */
function todays(files: string[], of: number): string[] {
  return files.filter((_, at) => at % of === DAY % of);
}

/** `npm run test:scenario` wants all. */
function scenarioFiles(): string[] {
  const files = tapFiles('scenario');
  return process.env['AFTERIMAGE_SCENARIO'] === 'all' ? files : todays(files, 4);
}

/** All of them ran plain; `npm run test:asan` and `test:tsan` run all. */
function sanitizerStep(name: 'asan' | 'tsan', minutesMax: number, of: number): Step {
  const files = readdirSync('test/native').filter((file) => file.endsWith('_test.cc'));
  const those = todays(files.sort(), of).map((file) => `*${file}`);
  const args = [name, `--source-file=${those.join(',')}`];
  return { name, minutesMax, command: 'scripts/test-native', args, count: doctest };
}

function underAsan(step: Step): Step {
  return { ...step, command: 'scripts/with-asan', args: [step.command, ...step.args] };
}

function tapStep(name: string, minutesMax: number, files: string[], jobs: number): Step {
  return {
    name,
    minutesMax,
    command: 'npx',
    args: [
      '--no-install',
      'tap',
      '--reporter=tap',
      '--disable-coverage',
      '--allow-incomplete-coverage',
      `--jobs=${jobs}`,
      '--timeout=300',
      ...files,
    ],
    count: tap,
  };
}

function fuzzSteps(): Step[] {
  return readdirSync('test/native/fuzz')
    .filter((file) => file.endsWith('.cc'))
    .map((file) => path.basename(file, '.cc'))
    .map((name) => ({
      name: `fuzz-${name}`,
      minutesMax: 2,
      command: `build/native-asan/fuzz-${name}`,
      args: ['--seed', String(DAY), '--seconds', '15'],
      count: single,
    }));
}

const steps: Step[] = [
  { name: 'lint', minutesMax: 6, command: 'scripts/lint', args: [], count: single },
  { name: 'native', minutesMax: 8, command: 'scripts/test-native', args: ['plain'], count: doctest },
  tapStep(
    'unit',
    8,
    tapFiles(
      'proto',
      'native-door',
      'service',
      'agent',
      'receiver',
      'cli',
      'house',
      'replay',
      'torture',
      'compat',
    ),
    2,
  ),
  tapStep('attack', 6, tapFiles('attack'), 2),
  tapStep('sim', 5, tapFiles('sim'), 1),
  sanitizerStep('asan', 12, 2),
  ...fuzzSteps(),
  // What is told to a receiver by gRPC, with the addon under AddressSanitizer; its build takes three minutes.
  {
    ...underAsan(tapStep('attack-asan', 12, ['dist/test/attack/flood.test.js'], 1)),
    isDue: DAY % 3 === 1,
  },
  sanitizerStep('tsan', 12, 4),
  tapStep('power-loss', 5, tapFiles('fault', 'power_loss'), 1),
  // One at a time: scenarios attach devices and measure nothing, but each fills both cores.
  tapStep('scenario', process.env['AFTERIMAGE_SCENARIO'] === 'all' ? 40 : 15, scenarioFiles(), 1),
  {
    name: 'torture',
    minutesMax: 6,
    command: 'node',
    // A pause as long as that is no pause any more, on whatever machine.
    args: [
      'dist/test/torture/main.js',
      ...['--seed', String(DAY), '--seconds', '90', '--pause-ms-max', '30000'],
    ],
    count: single,
  },
  // Software emulation: one virtual machine a day, unless `npm run test:vm` wants all; every third day it is a whole host.
  {
    ...tapStep('vm', process.env['AFTERIMAGE_VM'] === 'all' ? 90 : 15, tapFiles('vm'), 1),
    isDue: !isHostDay,
  },
  { ...tapStep('host', 25, tapFiles('host'), 1), isDue: isHostDay },
  { name: 'demo', minutesMax: 8, command: 'node', args: ['dist/test/scenario/demo.js'], count: demo },
  { name: 'mutants', minutesMax: 12, command: 'scripts/mutants', args: ['--quick'], count: single },
  { name: 'bench', minutesMax: 6, command: 'node', args: ['dist/bench/main.js', '--quick'], count: single },
];

const INTERRUPTS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
/** No further step is begun. */
let interrupted = false;

/** The whole process group, so that no child goes on. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid !== undefined) process.kill(-pid, signal);
}

interface Outcome extends Count {
  name: string;
  seconds: number;
}

async function run(step: Step): Promise<Outcome> {
  const begin = Date.now();
  const child = spawn(step.command, step.args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
    env: isRoot ? { ...process.env, AFTERIMAGE_TEST_REQUIRE_ALL: '1' } : process.env,
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    process.stdout.write(text);
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    signalGroup(child, 'SIGKILL');
  }, step.minutesMax * 60_000);
  const interrupt = (signal: NodeJS.Signals): void => {
    interrupted = true;
    signalGroup(child, signal);
  };
  for (const signal of INTERRUPTS) process.on(signal, interrupt);
  const status = await new Promise<number | string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  clearTimeout(timer);
  for (const signal of INTERRUPTS) process.off(signal, interrupt);
  const count = step.count(output) ?? { passed: 0, failed: 0, skipped: 0 };
  if (status !== 0) {
    console.error(
      `step ${step.name}: ${timedOut ? `stopped after ${step.minutesMax} minutes` : `ended with ${status}`}`,
    );
    if (step.count === single || step.count === demo) count.passed = 0;
    count.failed = Math.max(count.failed, 1);
  } else if (count.passed + count.failed + count.skipped === 0) {
    console.error(`step ${step.name}: no test of it ran`);
    count.failed = 1;
  } else if (count.failed > 0) {
    console.error(`step ${step.name}: it ended well, but what it printed is a failure`);
  }
  return { name: step.name, seconds: (Date.now() - begin) / 1000, ...count };
}

const names = process.argv.slice(2);
if (names.includes('--list')) {
  for (const step of steps) console.log(step.name);
} else {
  const unknown = names.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) throw new Error(`no such step: ${unknown.join(', ')}`);
  const outcomes: Outcome[] = [];
  for (const step of steps) {
    const isWanted = names.length > 0 ? names.includes(step.name) : (step.isDue ?? true);
    if (interrupted || !isWanted) continue;
    console.log(`\n=== ${step.name} ===`);
    outcomes.push(await run(step));
  }
  const columns = ['passed', 'failed', 'skipped'] as const;
  console.log(`\n${'step'.padEnd(15)} ${columns.map((key) => key.padStart(7)).join(' ')}  seconds`);
  for (const outcome of outcomes) {
    const counts = columns.map((key) => String(outcome[key]).padStart(7)).join(' ');
    console.log(`${outcome.name.padEnd(15)} ${counts}  ${outcome.seconds.toFixed(1).padStart(7)}`);
  }
  console.log(total(outcomes));
  process.exitCode = !interrupted && outcomes.every(({ failed }) => failed === 0) ? 0 : 1;
}
