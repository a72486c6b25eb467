/**
 * R3 to R6 and R8 under power loss, in short: a site is recorded under load, and states that its disk might have held are
 * opened. `npm run power-loss` does more of it, and makes a state again.
 */
import t from 'tap';
import { isRoot, skipUnless } from '../prerequisite.js';
import { Scratch } from '../scenario/scratch.js';
import { SEED } from '../scenario/seed.js';
import { PROMISES, type BrokenPromise, type Violation } from './verdict.js';
import { judgeTruth, prove } from './power_loss.js';
import { record } from './recording.js';
import { proveSpool } from './spool.js';

t.setTimeout(360_000);

const ROUNDS = 3;
const STATES = 1500;
/** Of opening states. How many that are depends on the machine, and on nothing else. */
const SECONDS_MAX = 30;
const STATES_MIN = 50;

/** About a tenth of a second each. */
const SPOOL_STATES = 66;

const SAID: Readonly<Record<BrokenPromise, string>> = {
  opens: 'every state opens, and nothing is missing',
  R3: 'every point holds what the independent replay says (R3)',
  R4: 'what was acknowledged is there (R4)',
  R5: 'what a verification has found is not forgotten (R5)',
  R6: 'what was a point still is one (R6)',
  R8: 'what may differ is marked in the dirty logs, and nothing else differs (R8)',
  checkpoint: 'checkpoints that were made are there',
  ingest: 'the journal goes on from there',
  agent: 'the agent knows who it is and which numbers it has used',
  truth: 'in the end the journal is what the writers saw',
};

t.test(`after power loss at any moment (seed ${SEED})`, { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const scratch = await Scratch.create('power-loss');
  t.teardown(() => scratch.clean());
  const recording = await record(scratch, SEED, ROUNDS);
  const violations: Violation[] = await judgeTruth(recording, SEED);
  const summary = await prove(scratch, recording, {
    seed: SEED,
    states: STATES,
    only: null,
    secondsMax: SECONDS_MAX,
    onFailure: (failure) => {
      violations.push(...failure.violations);
      t.comment(JSON.stringify(failure, null, 2));
    },
  });
  t.comment(JSON.stringify(summary));
  t.ok(summary.states >= STATES_MIN, `${summary.states} states were opened`);
  t.ok(summary.marked > 0, `${summary.marked} extents had to be marked`);
  t.ok(summary.unmarked > 0, `${summary.unmarked} were not, and had to be equal`);
  for (const promise of PROMISES) {
    const broken = violations.filter((violation) => violation.promise === promise);
    t.same(broken.map(({ text }) => text).slice(0, 3), [], SAID[promise]);
  }
});

t.test(
  `a spool after power loss, or an error of its disk (seed ${SEED})`,
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    const scratch = await Scratch.create('power-loss-spool');
    t.teardown(() => scratch.clean());
    const { violations, ...figures } = await proveSpool(scratch, SEED, SPOOL_STATES);
    t.comment(JSON.stringify(figures));
    t.same(violations, [], 'what it gives back is what was captured, in order, and what is missing is told');
    t.ok(figures.whole > 0 && figures.lost > 0 && figures.alone > 0, 'in each case');
  },
);
