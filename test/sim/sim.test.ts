/** A thousand seeded histories. Another range, or one failing seed again: see main.ts. */
import t from 'tap';
import { simulate } from './simulation.js';

const SEEDS = 1000;

t.test('a thousand histories of faults keep every promise', (t) => {
  const summary = simulate({
    seed: 1,
    seeds: SEEDS,
    secondsMax: 0,
    nowMs: () => performance.now(),
    onFailure: (seed, error) => t.fail(`seed ${seed}: ${error.message}`),
  });
  t.equal(summary.seeds, SEEDS);
  t.same(summary.failed, []);
  t.ok(summary.points > 10 * SEEDS, 'ordered points were compared with the hosts');
  // A fault that never happens is not survived.
  for (const kind of [
    'agentCloned',
    'agentCrash',
    'agentKilled',
    'changedWhileAway',
    'checkpointKept',
    'checkpointKeptForReceiver',
    'cleanStop',
    'connectionLost',
    'differenceFound',
    'disorderRefused',
    'FENCED',
    'frameCorrupt',
    'harmless',
    'harmlessSpoolInherited',
    'journalFull',
    'logsRestored',
    'LSN_CEILING',
    'messageHeldBack',
    'messageLost',
    'messageReordered',
    'messageRepeated',
    'outage',
    'partialResync',
    'persistFailure',
    'powerLoss',
    'receiverCrash',
    'receiverRestored',
    'resumed',
    'RING_FULL',
    'ringInherited',
    'ringRefused',
    'slowDisk',
    'slowLink',
    'SPOOL_CORRUPT',
    'SPOOL_FULL',
    'SPOOL_IO',
    'spoolDamaged',
    'spooled',
    'spoolInherited',
    'storeFailure',
    'syncReadFailure',
    'uncleanStop',
    'unmarked',
    'verificationEnded',
    'verified',
    'volumesChange',
    'writesLost',
    'writtenBehind',
  ]) {
    t.ok((summary.counts[kind] ?? 0) > 0, `${kind} came up`);
  }
  t.end();
});

t.test('a seed replays its history', (t) => {
  const run = (): Record<string, number> =>
    simulate({
      seed: 7,
      seeds: 3,
      secondsMax: 0,
      nowMs: () => 0,
      onFailure: (seed, error) => t.fail(`seed ${seed}: ${error.message}`),
    }).counts;
  t.same(run(), run());
  t.end();
});
