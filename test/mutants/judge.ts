/** Runs one test against one build and tells what became of it. */
import { spawn } from 'node:child_process';
import { ended } from '../scenario/command.js';

export interface Run {
  /** `passed` only where something ran and nothing was left out. */
  ended: 'passed' | 'failed' | 'crash' | 'time-out';
  /** What failed, by name. */
  failures: string[];
  /** What passed, of a scenario. */
  passes: string[];
  seconds: number;
  output: string;
}

/** A program that gets stuck is told from a slow one by what the control took. */
export function secondsMax(controlSeconds: number): number {
  return Math.max(60, 4 * controlSeconds);
}

/** One test case of the native tests, by its whole name. */
export async function runNative(program: string, testCase: string, limit: number): Promise<Run> {
  // A comma would separate two filters; `?` stands for any character.
  const run = await runProgram(program, [`--test-case=${testCase.replaceAll(',', '?')}`], {}, limit);
  if (run.ended !== 'passed' && run.ended !== 'failed') return run;
  const count = /test cases:\s+1 \|\s+(\d+) passed \|\s+(\d+) failed/.exec(run.output);
  if (count === null) throw new Error(`no test case of this name: ${testCase}\n${run.output.slice(-2000)}`);
  if (run.output.includes('test case CRASHED')) return { ...run, ended: 'crash' };
  return { ...run, failures: count[2] === '1' ? [testCase] : [] };
}

/** A build of everything: the addon, and the compiled TypeScript. */
export interface Build {
  addon: string;
  dist: string;
}

/** One test file, which with all that it starts is of this build. */
export async function runScenario({ addon, dist }: Build, file: string, limit: number): Promise<Run> {
  const args = [`${dist}/test/${file}.test.js`];
  const run = await runProgram(process.execPath, args, { AFTERIMAGE_ADDON: addon }, limit);
  const assertions = (result: RegExp): string[] =>
    [...run.output.matchAll(result)].map((match) => match[1] ?? '');
  const failures = assertions(/^ +not ok \d+ - (.*?)(?: # time=.*)?$/gm);
  const passes = assertions(/^ +ok \d+ - (.*?)(?: # time=.*)?$/gm);
  const late = failures.some((name) => /^timeout!/.test(name));
  return { ...run, ended: late ? 'time-out' : run.ended, failures, passes };
}

/** What torture may take over one mutant: twice every kind of fault. */
export const TORTURE = { seed: 1, rounds: 16, seconds: 420 };
/** A round that has begun goes to its end. */
const ROUND_SECONDS_MAX = 240;

/** Torture up to the first violation, with all daemons of this build: a failure is "PROMISE: what is wrong". */
export async function runTorture({ addon, dist }: Build, { seed, rounds, seconds } = TORTURE): Promise<Run> {
  const words = ['--seed', String(seed), '--rounds', String(rounds), '--seconds', String(seconds)];
  const args = [`${dist}/test/torture/main.js`, ...words, '--until-violation', '--json'];
  const env = { AFTERIMAGE_ADDON: addon };
  const run = await runProgram(process.execPath, args, env, seconds + ROUND_SECONDS_MAX);
  const failures = [...run.output.matchAll(/^torture: seed \d+, (round \d+): (.*)$/gm)].map(
    (match) => `${match[2]} (${match[1]}, ${run.seconds.toFixed(0)} s)`,
  );
  return { ...run, failures };
}

async function runProgram(
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  limit: number,
): Promise<Run> {
  const begin = Date.now();
  // A test that leaves itself out would pass with any mutant.
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env, AFTERIMAGE_TEST_REQUIRE_ALL: '1' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const status = await ended(child, limit);
  const how =
    status === 0
      ? 'passed'
      : typeof status === 'number'
        ? 'failed'
        : status.startsWith('a time-out')
          ? 'time-out'
          : 'crash';
  return { ended: how, failures: [], passes: [], seconds: (Date.now() - begin) / 1000, output };
}
