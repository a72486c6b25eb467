/**
 * What must hold of a store, judged by the hosts' own histories: every LSN graded `ordered` shows exactly what the host
 * had written when it gave that LSN out (R3, R5), LSNs are dense within a generation and never used twice, and points
 * that were promised once are still there (R6).
 */
import { strict as assert } from 'node:assert';
import type { ModelRecord } from './model_capture.js';
import { apply } from './model_host.js';
import type { ModelHost } from './model_host.js';
import type { ModelGeneration, ModelStore } from './model_store.js';

/** A stretch of ordered points. */
export interface OrderedSpan {
  generation: bigint;
  fromLsn: bigint;
  toLsn: bigint;
}

/** Whether a verification has found that the point shows something that its source did not hold. */
export function isDamaged({ differences }: ModelStore, generation: bigint, lsn: bigint): boolean {
  return differences.some(
    (row) =>
      generation <= row.generation && lsn >= row.firstLsn && (row.lastLsn === null || lsn <= row.lastLsn),
  );
}

/** What the store offers now, and what of it is damaged. */
export function orderedSpans(store: ModelStore): OrderedSpan[] {
  return store.generations.flatMap(({ number, records, orderedFromLsn }) => {
    const last = records.at(-1);
    if (orderedFromLsn === null || last === undefined || last.lsn < orderedFromLsn) return [];
    return [{ generation: number, fromLsn: orderedFromLsn, toLsn: last.lsn }];
  });
}

/** Errors: an AssertionError that says which promise was broken. */
export function assertKept(store: ModelStore, before: readonly OrderedSpan[]): void {
  const now = orderedSpans(store);
  for (const { generation, fromLsn, toLsn } of before) {
    const kept = now.find((span) => span.generation === generation);
    assert(
      kept !== undefined && kept.fromLsn <= fromLsn && kept.toLsn >= toLsn,
      `R6: generation ${generation} was ordered from ${fromLsn} to ${toLsn} once`,
    );
  }
}

/** Verifies every ordered point of the store; returns how many there are. */
export function verifyPoints(store: ModelStore): number {
  const state = store.bases.map((blocks) => [...blocks]);
  const hosts = new Map<ModelHost, { state: number[][]; count: number }>();
  let points = 0;
  let lastLsn = 0n;
  for (const generation of store.generations) {
    assertDense(generation, lastLsn);
    for (const record of generation.records) {
      lastLsn = record.lsn;
      for (const change of record.changes) {
        assert(
          generation.volumes.includes(change.volume),
          `R5: a record of a volume that ${generation.number} lacks`,
        );
        if (record.lsn >= (store.volumes[change.volume]?.oldestLsn ?? 0n)) apply(state, change);
      }
      const expected = expectedState(hosts, record);
      if (generation.orderedFromLsn === null || record.lsn < generation.orderedFromLsn) continue;
      if (isDamaged(store, generation.number, record.lsn)) continue;
      const { host, historyCount } = record;
      assertSame(
        state,
        expected,
        `the ordered point ${generation.number}/${record.lsn}`,
        (volume, block, shown) =>
          !generation.volumes.includes(volume) || host.isHidden(volume, block, historyCount, shown),
      );
      points += 1;
    }
  }
  return points;
}

/** After everything has come to rest: the replica is the source. */
export function verifyReplica(store: ModelStore, host: ModelHost): void {
  const state = store.bases.map((blocks) => [...blocks]);
  for (const { records } of store.generations) {
    for (const { lsn, changes } of records) {
      for (const change of changes) {
        if (lsn >= (store.volumes[change.volume]?.oldestLsn ?? 0n)) apply(state, change);
      }
    }
  }
  assertSame(state, host.backings, 'the replica at rest', () => false);
}

function assertDense({ number, firstLsn, records }: ModelGeneration, lastLsn: bigint): void {
  assert(firstLsn > lastLsn, `R5: generation ${number} begins at ${firstLsn}, ${lastLsn} was used before`);
  records.forEach(({ lsn }, index) => {
    assert(lsn === firstLsn + BigInt(index), `R5: LSN ${lsn} as record ${index} of generation ${number}`);
  });
}

function expectedState(
  hosts: Map<ModelHost, { state: number[][]; count: number }>,
  { host, historyCount }: ModelRecord,
): number[][] {
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

function assertSame(
  actual: number[][],
  expected: number[][],
  what: string,
  /** Nobody could know that the block is wrong. */
  isExcused: (volume: number, block: number, shown: number) => boolean,
): void {
  actual.forEach((blocks, volume) => {
    blocks.forEach((value, block) => {
      const wanted = expected[volume]?.[block];
      if (value === wanted || isExcused(volume, block, value)) return; // the message is only made when it is needed
      assert.fail(
        `R3: ${what} shows ${value} in block ${block} of volume ${volume}, not ${wanted ?? 'nothing'}`,
      );
    });
  });
}
