import t from 'tap';
import { WHOLE } from '../../receiver/catalog/held_windows.js';
import {
  spansOf,
  type DamageHistory,
  type GenerationHistory,
  type MemberHistory,
} from '../../receiver/timeline.js';

/** Generation 1: LSNs 1…100 at times 1000…1990, one volume that is consistent from LSN 11 on. */
function generation(change: Partial<GenerationHistory> = {}): GenerationHistory {
  const number = change.generation ?? 1n;
  return {
    member: 'm',
    generation: 1n,
    firstLsn: 1n,
    lastLsn: null,
    beginNs: 990n,
    endNs: null,
    reason: 'NEW',
    endReason: '',
    volumes: [
      { member: 'm', generation: number, number: 0, size: 1n, orderedLsn: 11n, orderedTimeNs: 1100n },
    ],
    durableLsn: 100n,
    firstTimeNs: 1000n,
    lastTimeNs: 1990n,
    ...change,
  };
}
/** Records 51…60, lost after the one at 1500. */
const hole: DamageHistory = {
  ...{ member: 'm', firstLsn: 51n, lastLsn: 60n, touchedLsn: null, touchedTimeNs: null },
  ...{ foundGeneration: 1n, reason: 'bad CRC', intactTimeNs: 1500n },
};
const ended = { lastLsn: 100n, endNs: 2000n, endReason: 'RING_FULL' };
const second: Partial<GenerationHistory> = {
  generation: 2n,
  firstLsn: 201n,
  reason: 'RING_FULL',
  volumes: [{ member: 'm', generation: 2n, number: 0, size: 1n, orderedLsn: 211n, orderedTimeNs: 3100n }],
  durableLsn: 300n,
  firstTimeNs: 3000n,
  lastTimeNs: 3990n,
};

function told(history: Partial<MemberHistory>): string[] {
  return spansOf({
    generations: [],
    damage: [],
    baseDamage: [],
    differences: [],
    coveredTimeNs: 0n,
    held: WHOLE,
    ...history,
  }).map(({ grade, firstLsn, lastLsn, beginNs, endNs, reason }) =>
    `${grade} ${firstLsn}-${lastLsn} @${beginNs}-${endNs ?? ''} ${reason}`.trim(),
  );
}

t.test('nothing was received yet', (t) => {
  t.same(told({}), []);
  t.end();
});

t.test('an initial sync under way', (t) => {
  const volumes = [
    { member: 'm', generation: 1n, number: 0, size: 1n, orderedLsn: 11n, orderedTimeNs: 1100n },
    { member: 'm', generation: 1n, number: 1, size: 1n, orderedLsn: null, orderedTimeNs: null },
  ];
  t.same(told({ generations: [generation({ volumes })] }), ['syncing 1-100 @1000- NEW']);
  t.end();
});

t.test('a group is consistent from where its last volume is', (t) => {
  const volumes = [
    { member: 'm', generation: 1n, number: 0, size: 1n, orderedLsn: 11n, orderedTimeNs: 1100n },
    { member: 'm', generation: 1n, number: 1, size: 1n, orderedLsn: 21n, orderedTimeNs: 1200n },
  ];
  t.same(told({ generations: [generation({ volumes })] }), [
    'syncing 1-20 @1000-1200 NEW',
    'ordered 21-100 @1200-1990',
  ]);
  t.end();
});

t.test('a quiet volume is covered as long as the agent says that nothing was written', (t) => {
  t.same(told({ generations: [generation()], coveredTimeNs: 5000n }).at(-1), 'ordered 11-100 @1100-5000');
  t.end();
});

t.test('a volume that was synced before anything was written to it', (t) => {
  const volumes = [{ member: 'm', generation: 1n, number: 0, size: 1n, orderedLsn: 1n, orderedTimeNs: 995n }];
  const silent = { volumes, durableLsn: 0n, firstTimeNs: null, lastTimeNs: null };
  t.same(told({ generations: [generation(silent)], coveredTimeNs: 998n }), ['ordered 1-0 @995-998']);
  t.same(told({ generations: [generation({ volumes })] }), ['ordered 1-100 @995-1990']);
  t.end();
});

t.test('the ring was full: a gap until the resync is complete', (t) => {
  t.same(told({ generations: [generation(ended)], coveredTimeNs: 2500n }), [
    'syncing 1-10 @1000-1100 NEW',
    'ordered 11-100 @1100-2000',
    'gap 0-0 @2000- RING_FULL',
  ]);
  t.same(told({ generations: [generation(ended), generation(second)] }), [
    'syncing 1-10 @1000-1100 NEW',
    'ordered 11-100 @1100-2000',
    'gap 0-0 @2000-3000 RING_FULL',
    'syncing 201-210 @3000-3100 RING_FULL',
    'ordered 211-300 @3100-3990',
  ]);
  t.end();
});

t.test('damage lasts to the end of the generation in which it was found', (t) => {
  const damage = [hole];
  t.same(told({ generations: [generation(ended), generation(second)], damage }), [
    'syncing 1-10 @1000-1100 NEW',
    'ordered 11-50 @1100-1500',
    'damaged 51-100 @1500-2000 bad CRC',
    'gap 0-0 @2000-3000 RING_FULL',
    'syncing 201-210 @3000-3100 RING_FULL',
    'ordered 211-300 @3100-3990',
  ]);
  t.end();
});

t.test('old damage that is found later takes the generations with it that were built on it', (t) => {
  const damage = [{ ...hole, foundGeneration: 2n }];
  t.same(told({ generations: [generation(ended), generation(second)], damage }).slice(1), [
    'ordered 11-50 @1100-1500',
    'damaged 51-100 @1500-2000 bad CRC',
    'gap 0-0 @2000-3000 RING_FULL',
    'damaged 201-210 @3000-3100 bad CRC',
    'damaged 211-300 @3100-3990 bad CRC',
  ]);
  t.end();
});

t.test('lost records touch instants until all that they had set was set again', (t) => {
  const generations = [generation(ended), generation(second)];
  const set = { ...hole, touchedLsn: 70n, touchedTimeNs: 1690n };
  t.same(told({ generations: generations.slice(0, 1), damage: [set] }), [
    'syncing 1-10 @1000-1100 NEW',
    'ordered 11-50 @1100-1500',
    'damaged 51-70 @1500-1690 bad CRC',
    'ordered 71-100 @1690-2000',
    'gap 0-0 @2000- RING_FULL',
  ]);
  // In a later generation.
  const later = { ...hole, touchedLsn: 250n, touchedTimeNs: 3490n, foundGeneration: 2n };
  t.same(told({ generations, damage: [later] }).slice(1), [
    'ordered 11-50 @1100-1500',
    'damaged 51-100 @1500-2000 bad CRC',
    'gap 0-0 @2000-3000 RING_FULL',
    'damaged 201-210 @3000-3100 bad CRC',
    'damaged 211-250 @3100-3490 bad CRC',
    'ordered 251-300 @3490-3990',
  ]);
  t.end();
});

t.test('every hole counts, each to its own end', (t) => {
  const first = { ...hole, touchedLsn: 70n, touchedTimeNs: 1690n };
  const within = { ...first, firstLsn: 65n, lastLsn: 66n, touchedLsn: 68n, reason: 'within' };
  const beyond = {
    ...{ ...first, firstLsn: 67n, lastLsn: 68n, touchedLsn: 80n, touchedTimeNs: 1790n },
    ...{ reason: 'beyond', intactTimeNs: 1650n },
  };
  const apart = {
    ...{ ...first, firstLsn: 90n, lastLsn: 91n, touchedLsn: 91n, touchedTimeNs: 1900n },
    ...{ reason: 'apart', intactTimeNs: 1890n },
  };
  const damage = [first, within, beyond, apart];
  t.same(told({ generations: [generation()], damage }), [
    'syncing 1-10 @1000-1100 NEW',
    'ordered 11-50 @1100-1500',
    'damaged 51-70 @1500-1690 bad CRC',
    'damaged 71-80 @1690-1790 beyond',
    'ordered 81-89 @1790-1890',
    'damaged 90-91 @1890-1900 apart',
    'ordered 92-100 @1900-1990',
  ]);
  // One whose end is not known ends with its generation, whatever comes before.
  t.match(
    told({ generations: [generation(ended)], damage: [first, { ...apart, touchedLsn: null }] }).slice(-3),
    ['ordered 71-89 @1690-1890', 'damaged 90-100 @1890-2000 apart', 'gap 0-0 @2000- RING_FULL'],
  );
  t.end();
});

t.test('the last records before a crash are lost: what is left stays ordered', (t) => {
  const damage = [{ ...hole, firstLsn: 101n, lastLsn: 110n, reason: 'torn', intactTimeNs: 1990n }];
  const lost = { lastLsn: 110n, endNs: 2050n, endReason: 'SEGMENT_CORRUPT' };
  t.same(told({ generations: [generation(lost)], damage }).slice(1), [
    'ordered 11-100 @1100-1990',
    'damaged 101-110 @1990-2050 torn',
    'gap 0-0 @2050- SEGMENT_CORRUPT',
  ]);
  t.end();
});

t.test('a difference: from where the volume was last known to be equal until it was mended', (t) => {
  const generations = [generation(ended), generation(second)];
  const intact = told({ generations });
  const row = { member: 'm', number: 0, firstLsn: 50n, firstTimeNs: 1490n, reason: 'differed' };
  const open = { ...row, lastLsn: null, lastTimeNs: null };
  t.same(
    told({ generations, differences: [{ ...row, lastLsn: 249n, lastTimeNs: 3500n, foundGeneration: 2n }] }),
    [
      ...intact.slice(0, 1),
      'ordered 11-49 @1100-1490',
      'damaged 50-100 @1490-2000 differed',
      'gap 0-0 @2000-3000 RING_FULL',
      'damaged 201-210 @3000-3100 differed',
      'damaged 211-249 @3100-3500 differed',
      'ordered 250-300 @3500-3990',
    ],
  );
  t.same(told({ generations, differences: [{ ...open, foundGeneration: 1n }] }), [
    ...intact.slice(0, 1),
    'ordered 11-49 @1100-1490',
    'damaged 50-100 @1490-2000 differed',
    ...intact.slice(2),
  ]);
  t.same(told({ generations, differences: [{ ...open, firstLsn: 11n, foundGeneration: 2n }] }), [
    ...intact.slice(0, 1),
    'damaged 11-100 @1100-2000 differed',
    'gap 0-0 @2000-3000 RING_FULL',
    'damaged 201-210 @3000-3100 differed',
    'damaged 211-300 @3100-3990 differed',
  ]);
  t.end();
});

t.test('a damaged block of a base: until it is written over, or to the end of the generation', (t) => {
  const generations = [generation(ended), generation(second)];
  const row = { member: 'm', number: 0, firstLsn: 0n, foundGeneration: 2n, reason: 'BASE_CORRUPT' };
  const intact = told({ generations });
  t.same(told({ generations, baseDamage: [{ ...row, lastLsn: null, lastTimeNs: null }] }), [
    'damaged 1-10 @1000-1100 BASE_CORRUPT',
    'damaged 11-100 @1100-2000 BASE_CORRUPT',
    'gap 0-0 @2000-3000 RING_FULL',
    'damaged 201-210 @3000-3100 BASE_CORRUPT',
    'damaged 211-300 @3100-3990 BASE_CORRUPT',
  ]);
  t.same(told({ generations, baseDamage: [{ ...row, lastLsn: 50n, lastTimeNs: 1490n }] }), [
    'damaged 1-10 @1000-1100 BASE_CORRUPT',
    'damaged 11-50 @1100-1490 BASE_CORRUPT',
    'ordered 51-100 @1490-2000',
    ...intact.slice(2),
  ]);
  t.same(told({ generations, baseDamage: [{ ...row, lastLsn: 100n, lastTimeNs: 1990n }] }), [
    'damaged 1-10 @1000-1100 BASE_CORRUPT',
    'damaged 11-100 @1100-2000 BASE_CORRUPT',
    ...intact.slice(2),
  ]);
  const found = { ...row, lastLsn: null, lastTimeNs: null, foundGeneration: 1n };
  t.same(told({ generations, baseDamage: [found] }), [
    'damaged 1-10 @1000-1100 BASE_CORRUPT',
    'damaged 11-100 @1100-2000 BASE_CORRUPT',
    ...intact.slice(2),
  ]);
  t.end();
});
