import t from 'tap';
import { WHOLE } from '../../receiver/catalog/held_windows.js';
import { spansOf, } from '../../receiver/timeline.js';
/** Generation 1: LSNs 1…100 at times 1000…1990, one volume that is consistent from LSN 11 on. */
function generation(change = {}) {
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
const ended = { lastLsn: 100n, endNs: 2000n, endReason: 'RING_FULL' };
const second = {
    generation: 2n,
    firstLsn: 201n,
    reason: 'RING_FULL',
    volumes: [{ member: 'm', generation: 2n, number: 0, size: 1n, orderedLsn: 211n, orderedTimeNs: 3100n }],
    durableLsn: 300n,
    firstTimeNs: 3000n,
    lastTimeNs: 3990n,
};
function told(history) {
    return spansOf({
        generations: [],
        damage: [],
        baseDamage: [],
        coveredTimeNs: 0n,
        held: WHOLE,
        ...history,
    }).map(({ grade, firstLsn, lastLsn, beginNs, endNs, reason }) => `${grade} ${firstLsn}-${lastLsn} @${beginNs}-${endNs ?? ''} ${reason}`.trim());
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
    const damage = [
        { member: 'm', firstLsn: 51n, lastLsn: 60n, foundGeneration: 1n, reason: 'bad CRC', intactTimeNs: 1500n },
    ];
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
    const damage = [
        { member: 'm', firstLsn: 51n, lastLsn: 60n, foundGeneration: 2n, reason: 'bad CRC', intactTimeNs: 1500n },
    ];
    t.same(told({ generations: [generation(ended), generation(second)], damage }).slice(1), [
        'ordered 11-50 @1100-1500',
        'damaged 51-100 @1500-2000 bad CRC',
        'gap 0-0 @2000-3000 RING_FULL',
        'damaged 201-210 @3000-3100 bad CRC',
        'damaged 211-300 @3100-3990 bad CRC',
    ]);
    t.end();
});
t.test('the last records before a crash are lost: what is left stays ordered', (t) => {
    const damage = [
        { member: 'm', firstLsn: 101n, lastLsn: 110n, foundGeneration: 1n, reason: 'torn', intactTimeNs: 1990n },
    ];
    const lost = { lastLsn: 110n, endNs: 2050n, endReason: 'SEGMENT_CORRUPT' };
    t.same(told({ generations: [generation(lost)], damage }).slice(1), [
        'ordered 11-100 @1100-1990',
        'damaged 101-110 @1990-2050 torn',
        'gap 0-0 @2050- SEGMENT_CORRUPT',
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
//# sourceMappingURL=timeline.test.js.map