/**
 * Power loss, state by state: `npm run power-loss -- [--seed N] [--states S] [--spool-states S] [--rounds R] [--seconds S]
 * [--states-min N] [--syncs-min N] [--json]`. Records a site under load (recording.ts), then opens S of the states that its disk might have held; and of
 * those of a spool (spool.ts). The first line of a
 * failure names the seed and the state; the recording is kept then, and `--recording DIRECTORY --only STATE` makes that
 * state again and leaves it there. The last line is a summary. Exit status: 0, or 1 with any violation, or
 * where less than N distinct states of the site were opened, or next to less than N distinct syncs; or, with --states-min, none
 * with a torn write, a rename or a truncation, an extent that is marked, or one that is not.
 */
import { mkdtemp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Scratch } from '../scenario/scratch.js';
import { keepRecording, loadRecording } from './kept_recording.js';
import { kindOf } from './plan.js';
import { judgeTruth, prove, type Failure, type Summary } from './power_loss.js';
import { record, type Recording } from './recording.js';
import { proveSpool, type SpoolSummary } from './spool.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Date.now() / 86_400_000)) },
    /** Tried; about a sixth of them are there already, at a moment that offers no other. */
    states: { type: 'string', default: '6500' },
    /** Of a spool, in a run of its own. */
    'spool-states': { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '8' },
    /** Of opening states; then it ends with what it has. */
    seconds: { type: 'string', default: '3600' },
    'states-min': { type: 'string', default: '0' },
    'syncs-min': { type: 'string', default: '0' },
    /** Keeps the recording there, whatever comes of it. */
    keep: { type: 'string' },
    recording: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const states = Number(values.states);
const say = (text: string): void => console.error(`power-loss: ${text}`);

let kept = values.recording ?? null;
async function keepIn(directory: string, recording: Recording): Promise<void> {
  await keepRecording(directory, recording);
  kept = directory;
}

async function judged(scratch: Scratch, recording: Recording): Promise<Summary> {
  const kinds = new Map<string, number>();
  for (const operation of recording.operations) {
    if (operation.kind !== 'sync' && operation.kind !== 'syncdir') continue;
    kinds.set(kindOf(operation), (kinds.get(kindOf(operation)) ?? 0) + 1);
  }
  say(`${recording.operations.length} operations, ${recording.promised.length} promises; syncs by kind:`);
  for (const [kind, count] of kinds) say(`  ${String(count).padStart(6)}  ${kind}`);
  const untrue = await judgeTruth(recording, seed);
  for (const violation of untrue) console.error(`seed ${seed}: the journal in the end: ${violation.text}`);
  const summary = await prove(scratch, recording, {
    seed,
    states,
    only: values.only ?? null,
    secondsMax: Number(values.seconds),
    onFailure: (failure) => console.error(shown(failure)),
  });
  if (untrue.length > 0)
    summary.failures.push({ state: '', kind: 'truth', moment: 0, violations: untrue, operations: [] });
  return summary;
}

function shown({ state, kind, moment, violations, operations }: Failure): string {
  const lines = [
    ...violations.map(({ promise, text }) => `  ${promise}: ${text}`),
    ...operations.map((text) => `    ${text}`),
  ];
  return [`seed ${seed}, state ${state} (${kind}, moment ${moment}):`, ...lines].join('\n');
}

let summary: Summary;
let spool: SpoolSummary | null = null;
const scratch = await Scratch.create('power-loss');
try {
  const begin = performance.now();
  const loaded = values.recording === undefined ? null : await loadRecording(values.recording);
  const recording = loaded ?? (await record(scratch, seed, Number(values.rounds)));
  say(`recorded in ${((performance.now() - begin) / 1000).toFixed(0)} s`);
  if (values.keep !== undefined) await keepIn(values.keep, recording);
  summary = await judged(scratch, recording);
  if (values.recording === undefined) spool = await proveSpool(scratch, seed, Number(values['spool-states']));
  for (const violation of spool?.violations ?? []) console.error(`seed ${seed}, ${violation}`);
  if (summary.failures.length > 0 && kept === null) {
    await keepIn(await mkdtemp(path.join(os.tmpdir(), 'afterimage-power-loss-kept-')), recording);
  }
} finally {
  await scratch.clean();
}
const [failure] = summary.failures;
if (failure !== undefined && kept !== null) {
  say(`the recording is in ${kept}; to make a state again and keep it:`);
  const again = `--seed ${seed} --states ${states} --recording ${kept} --only ${failure.state.split(' ')[0]}`;
  say(`  npm run power-loss -- ${again}`);
}
const { failures, ...figures } = summary;
const violations = failures.length + (spool?.violations.length ?? 0);
const tooFew = [
  ...(summary.states < Number(values['states-min']) ? ['states'] : []),
  ...(summary.syncPoints < Number(values['syncs-min']) ? ['syncPoints'] : []),
  // A short run may meet none of these.
  ...(Number(values['states-min']) > 0
    ? (['torn', 'renames', 'truncations', 'marked', 'unmarked'] as const).filter(
        (what) => summary[what] === 0,
      )
    : []),
];
if (tooFew.length > 0) say(`too few: ${tooFew.join(', ')}`);
const last = { seed, ...figures, spool, violations, tooFew, recording: kept };
console.log(values.json ? JSON.stringify({ ...last, failures }) : JSON.stringify(last));
process.exitCode = violations === 0 && tooFew.length === 0 ? 0 : 1;
