/**
 * Mutation: each invariant is broken on purpose, by a line compiled in with -DAFTERIMAGE_SABOTAGE_NAME, and a test has
 * to notice. `scripts/mutants [--quick] [NAME…]`; --quick leaves the end-to-end judges to one mutant a day.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { command } from './scenario/command.js';

interface Mutant {
  name: string;
  breaks: string;
  /** Test cases of the native tests, as doctest's --test-case takes them; null: they cannot see it. */
  native: string | null;
  /** A scenario that has to fail when both daemons run the mutated addon; null: it cannot see it. */
  scenario: string | null;
}

const mutants: Mutant[] = [
  { name: 'PUBLISH_BEFORE_BACKING', breaks: 'R2', native: '*', scenario: null },
  { name: 'NO_EXTENT_LOCK', breaks: 'R2', native: '*', scenario: 'prefix' },
  { name: 'LSN_AFTER_ACK', breaks: 'R1', native: '*', scenario: 'prefix' },
  { name: 'POINT_INCLUDES_NEXT', breaks: 'R3', native: '*', scenario: 'prefix' },
  { name: 'FLUSH_IGNORED', breaks: 'R4', native: '*', scenario: null },
  { name: 'ACK_BEFORE_DURABLE', breaks: 'R4', native: '*', scenario: null },
  { name: 'DROP_RECORD', breaks: 'R5', native: '*', scenario: 'prefix' },
  { name: 'TRACKING_SILENT', breaks: 'R5', native: '*', scenario: 'outage' },
  { name: 'ACCEPT_GAP', breaks: 'R5', native: '*', scenario: null },
  { name: 'GENERATION_DROPS_HISTORY', breaks: 'R6', native: '*', scenario: 'outage' },
];

const SECONDS_MAX = 240;
const jobs = String(os.cpus().length);

/** What became of one mutant before one judge. */
type Verdict = 'caught' | 'SURVIVED' | 'not judged';

/** A test run has to fail by an assertion: one that did not run at all has noticed nothing. */
async function judge(
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  assertion: RegExp,
): Promise<Verdict> {
  const accept = Array.from({ length: 256 }, (_, status) => status);
  try {
    const { status, stdout, stderr } = await command(program, args, { env, accept, secondsMax: SECONDS_MAX });
    if (status === 0) return 'SURVIVED';
    if (assertion.test(stdout + stderr)) return 'caught';
    throw new Error(`failed without an assertion:\n${(stdout + stderr).slice(-2000)}`);
  } catch (error) {
    // A mutant may also hang or crash its test: that is noticed too.
    if (/time-out|SIGABRT|SIGSEGV/.test(String(error))) return 'caught';
    throw error;
  }
}

async function judgeNative(mutant: Mutant): Promise<Verdict> {
  if (mutant.native === null) return 'not judged';
  await command('make', ['-s', '-C', 'test/native', `-j${jobs}`, `SABOTAGE=${mutant.name}`], {
    secondsMax: 900,
  });
  const tests = `build/native-plain-${mutant.name}/tests`;
  return judge(
    tests,
    [`--test-case=${mutant.native}`, '--abort-after=1'],
    process.env,
    /ERROR: |FATAL ERROR/,
  );
}

async function judgeScenario(mutant: Mutant): Promise<Verdict> {
  if (mutant.scenario === null) return 'not judged';
  const addon = mutatedAddon(mutant.name);
  const test = `dist/test/scenario/${mutant.scenario}.test.js`;
  const env = { ...process.env, AFTERIMAGE_ADDON: addon, TAP_TIMEOUT: String(SECONDS_MAX) };
  return judge(process.execPath, [test], env, /^\s*not ok /m);
}

/** Compiles the files that know the sabotage as node-gyp compiled them, and links them with the others' objects. */
function mutatedAddon(name: string): string {
  const directory = path.resolve('build', `mutant-${name}`);
  mkdirSync(directory, { recursive: true });
  const objects: string[] = [];
  const built = path.resolve('build/Release/obj.target/afterimage');
  for (const entry of readdirSync(built, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.o'),
  )) {
    const source = entry.replace(/\.o$/, '.cc');
    if (
      !entry.startsWith('native/') ||
      !readFileSync(source, 'utf8').includes(`AFTERIMAGE_SABOTAGE_${name}`)
    ) {
      objects.push(path.join(built, entry));
      continue;
    }
    const object = path.join(directory, path.basename(entry));
    const flags = ['-std=c++20', '-O2', '-g', '-fPIC', '-pthread', '-D_FILE_OFFSET_BITS=64', '-Inative'];
    flags.push('-Inode_modules/lz4/deps/lz4/lib', `-DAFTERIMAGE_SABOTAGE_${name}=1`);
    execFileSync('g++', [...flags, '-c', '-o', object, source], { stdio: 'inherit' });
    objects.push(object);
  }
  const addon = path.join(directory, 'afterimage.node');
  execFileSync('g++', ['-shared', '-pthread', '-o', addon, ...objects], { stdio: 'inherit' });
  return addon;
}

const quick = process.argv.includes('--quick');
const names = process.argv.slice(2).filter((word) => word !== '--quick');
const chosen = mutants.filter((mutant) => names.length === 0 || names.includes(mutant.name));
if (chosen.length < names.length)
  throw new Error(`mutants: ${mutants.map((mutant) => mutant.name).join(', ')}`);
const endToEnd = chosen.filter((mutant) => mutant.scenario !== null);
const ofToday = endToEnd[Math.floor(Date.now() / 86_400_000) % Math.max(1, endToEnd.length)];

let survived = 0;
for (const mutant of chosen) {
  const native = await judgeNative(mutant);
  const scenario = quick && mutant !== ofToday ? 'not judged' : await judgeScenario(mutant);
  const caught = native === 'caught' || scenario === 'caught';
  const missed = native === 'SURVIVED' || scenario === 'SURVIVED';
  if (!caught || missed) survived += 1;
  const columns = [mutant.name.padEnd(25), mutant.breaks, `native tests: ${native}`.padEnd(26)];
  console.log(`${columns.join('  ')}${mutant.scenario ?? 'scenario'}: ${scenario}`);
}
console.log(`mutants: ${chosen.length - survived} of ${chosen.length} caught`);
process.exitCode = survived === 0 ? 0 : 1;
