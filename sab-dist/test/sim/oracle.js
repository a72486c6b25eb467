/**
 * What must hold of a store, judged by the hosts' own histories: every LSN graded `ordered` shows exactly what the host
 * had written when it gave that LSN out (R3, R5), LSNs are dense within a generation and never used twice, and points
 * that were promised once are still there (R6).
 */
import { strict as assert } from 'node:assert';
import { apply } from './model_host.js';
/** What the store offers now. */
export function orderedSpans(store) {
    return store.generations.flatMap(({ number, records, orderedFromLsn }) => {
        const last = records.at(-1);
        if (orderedFromLsn === null || last === undefined || last.lsn < orderedFromLsn)
            return [];
        return [{ generation: number, fromLsn: orderedFromLsn, toLsn: last.lsn }];
    });
}
/** Errors: an AssertionError that says which promise was broken. */
export function assertKept(store, before) {
    const now = orderedSpans(store);
    for (const { generation, fromLsn, toLsn } of before) {
        const kept = now.find((span) => span.generation === generation);
        assert(kept !== undefined && kept.fromLsn <= fromLsn && kept.toLsn >= toLsn, `R6: generation ${generation} was ordered from ${fromLsn} to ${toLsn} once`);
    }
}
/** Verifies every ordered point of the store; returns how many there are. */
export function verifyPoints(store) {
    const state = store.bases.map((blocks) => [...blocks]);
    const hosts = new Map();
    let points = 0;
    let lastLsn = 0n;
    for (const generation of store.generations) {
        assertDense(generation, lastLsn);
        for (const record of generation.records) {
            lastLsn = record.lsn;
            for (const change of record.changes) {
                if (record.lsn >= (store.volumes[change.volume]?.oldestLsn ?? 0n))
                    apply(state, change);
            }
            const expected = expectedState(hosts, record);
            if (generation.orderedFromLsn === null || record.lsn < generation.orderedFromLsn)
                continue;
            assertSame(state, expected, `the ordered point ${generation.number}/${record.lsn}`);
            points += 1;
        }
    }
    return points;
}
/** After everything has come to rest: the replica is the source. */
export function verifyReplica(store, host) {
    const state = store.bases.map((blocks) => [...blocks]);
    for (const { records } of store.generations) {
        for (const { lsn, changes } of records) {
            for (const change of changes) {
                if (lsn >= (store.volumes[change.volume]?.oldestLsn ?? 0n))
                    apply(state, change);
            }
        }
    }
    assertSame(state, host.backings, 'the replica at rest');
}
function assertDense({ number, firstLsn, records }, lastLsn) {
    assert(firstLsn > lastLsn, `R5: generation ${number} begins at ${firstLsn}, ${lastLsn} was used before`);
    records.forEach(({ lsn }, index) => {
        assert(lsn === firstLsn + BigInt(index), `R5: LSN ${lsn} as record ${index} of generation ${number}`);
    });
}
function expectedState(hosts, { host, historyCount }) {
    let replay = hosts.get(host);
    if (replay === undefined) {
        replay = { state: host.origin.map((blocks) => [...blocks]), count: 0 };
        hosts.set(host, replay);
    }
    assert(replay.count <= historyCount, 'R1: records in another order than the writes');
    for (; replay.count < historyCount; replay.count += 1) {
        const change = host.changes[replay.count];
        assert(change !== undefined, 'the history is as long as it said');
        apply(replay.state, change);
    }
    return replay.state;
}
function assertSame(actual, expected, what) {
    actual.forEach((blocks, volume) => {
        blocks.forEach((value, block) => {
            const wanted = expected[volume]?.[block];
            if (value === wanted)
                return; // the message is only made when it is needed
            assert.fail(`R3: ${what} shows ${value} in block ${block} of volume ${volume}, not ${wanted ?? 'nothing'}`);
        });
    });
}
//# sourceMappingURL=oracle.js.map