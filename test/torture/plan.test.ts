/** The faults of a long run are spread evenly, each where it can strike; a round is the same whenever it is asked for. */
import t from 'tap';
import { FAULTS, planRound, type FaultKind } from './plan.js';

const ROUNDS = 304;
const UNEVEN_MAX = 1;

for (const seed of [1, 7, 20_260]) {
  const plans = Array.from({ length: ROUNDS }, (_, round) => planRound(seed, round));

  await t.test(
    `seed ${seed}: after any number of rounds no kind has come up much more often than another`,
    (t) => {
      const counts = Object.fromEntries(Object.keys(FAULTS).map((kind) => [kind, 0])) as Record<
        FaultKind,
        number
      >;
      let unevenMax = 0;
      for (const { faults } of plans) {
        for (const kind of faults) counts[kind] += 1;
        const all = Object.values(counts);
        unevenMax = Math.max(unevenMax, Math.max(...all) - Math.min(...all));
      }
      t.ok(unevenMax <= UNEVEN_MAX, `at most ${unevenMax} apart`);
      t.ok(Math.min(...Object.values(counts)) >= 37, 'in 300 rounds each has come up more than thirty times');
      t.end();
    },
  );

  await t.test(
    `seed ${seed}: each kind is where it can strike, and what breaks the stream is not everywhere`,
    (t) => {
      for (const { faults, store, hasFaultyState, hasFaultyBacking, volumes, mayBreak } of plans) {
        for (const kind of faults) {
          if (kind === 'receiver-killed') t.equal(store, 'faulty', kind);
          if (kind.startsWith('store-')) t.equal(store, kind === 'store-full' ? 'small' : 'faulty', kind);
          if (kind.startsWith('state-')) t.ok(hasFaultyState, kind);
          if (kind.startsWith('backing-')) t.ok(hasFaultyBacking, kind);
          if (kind.startsWith('backing-') || kind === 'host-lost') t.ok(mayBreak && volumes === 'loop', kind);
          if (kind === 'agent-killed-writing') t.ok(hasFaultyBacking && volumes === 'loop-and-socket', kind);
          if (kind === 'ring-full') t.ok(mayBreak, kind);
        }
      }
      t.equal(plans.filter(({ mayBreak }) => mayBreak).length, ROUNDS / 4);
      t.end();
    },
  );

  await t.test(`seed ${seed}: a round alone is the same as among others`, (t) => {
    for (const round of [0, 7, 8, 133, 303]) t.same(planRound(seed, round), plans[round]);
    t.not(
      plans
        .slice(0, 8)
        .map(({ faults }) => faults)
        .join(),
      plans
        .slice(8, 16)
        .map(({ faults }) => faults)
        .join(),
    );
    t.end();
  });
}
