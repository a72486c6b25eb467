/** Which segments may go: by age, by bytes, for want of room; and what keeps them. */
import t from 'tap';
import type { SegmentAge } from '../../../receiver/catalog/segments.js';
import { planRetention, type Candidate, type RetentionSettings } from '../../../receiver/retention/policy.js';

const NONE = { lsn: 2n ** 62n, who: '' };
const settings: RetentionSettings = {
  windowNs: 1000n,
  floorNs: 100n,
  bytesMax: null,
  rollForwardRateMax: 1n,
};

/** Segments of 10 bytes and 10 records, that were full at these running times; null: not yet. */
function segments(...agedFrom: (number | null)[]): SegmentAge[] {
  return agedFrom.map((at, index) => ({
    firstLsn: BigInt(index * 10 + 1),
    lastLsn: BigInt(index * 10 + 10),
    lastTimeNs: BigInt(index),
    bytes: 10n,
    rawBytes: 20n,
    agedFromNs: at === null ? null : BigInt(at),
  }));
}
function candidate(own: SegmentAge[], change: Partial<Candidate> = {}): Candidate {
  const bytes = BigInt(own.length + 1) * 10n;
  return { member: 'm', group: 'g', settings, bytes, segments: own, limit: NONE, ...change };
}
function planned(candidates: Candidate[], nowNs: bigint, roomBytes = 0n, growBytesMax = 2n ** 62n) {
  const { last, heldBy, shortBytes } = planRetention(candidates, nowNs, {
    shortBytes: roomBytes,
    growBytesMax,
  });
  const lsns = Object.fromEntries([...last].map(([member, { lastLsn }]) => [member, Number(lastLsn)]));
  return { lsns, heldBy: Object.fromEntries(heldBy), shortBytes: Number(shortBytes) };
}

t.test('by age: what is as old as the window, and nothing younger', (t) => {
  const own = segments(0, 500, 1000, null);
  t.same(planned([candidate(own)], 999n), { lsns: {}, heldBy: {}, shortBytes: 0 });
  t.same(planned([candidate(own)], 1000n).lsns, { m: 10 });
  t.same(planned([candidate(own)], 1500n).lsns, { m: 20 });
  t.same(planned([candidate(own)], 9999n).lsns, { m: 30 }, 'what still grows stays');
  t.end();
});

t.test('by bytes: the oldest beyond them, down to the floor', (t) => {
  const bounded = { settings: { ...settings, bytesMax: 25n } };
  t.same(planned([candidate(segments(0, 10, 20, 30), bounded)], 500n).lsns, { m: 30 });
  const held = planned([candidate(segments(0, 410, 420, 430), bounded)], 500n);
  t.same(
    held,
    { lsns: { m: 10 }, heldBy: { m: 'the floor' }, shortBytes: 0 },
    'what is younger than the floor stays',
  );
  t.same(planned([candidate(segments(0, 10), bounded)], 500n).lsns, { m: 10 });
  t.same(planned([candidate(segments(0), bounded)], 500n).lsns, {}, 'within its bytes nothing goes');
  t.end();
});

t.test('bytes are those of the whole group: the oldest of its members go', (t) => {
  const bounded = { settings: { ...settings, bytesMax: 60n } };
  const both = [
    candidate(segments(0, 30, 60), { member: 'a', ...bounded }),
    candidate(segments(10, 20, 50), { member: 'b', ...bounded }),
  ];
  t.same(planned(both, 500n).lsns, { a: 10, b: 10 });
  const other = [both[0]!, { ...both[1]!, group: 'h' }];
  t.same(planned(other, 500n).lsns, {}, 'another group has its own');
  t.end();
});

t.test('a full disk takes the oldest of all groups, down to the floor of each', (t) => {
  const all = [
    candidate(segments(0, 100, 200), { member: 'a', group: 'g' }),
    candidate(segments(50, 150, 250), {
      member: 'b',
      group: 'h',
      settings: { ...settings, floorNs: 400n },
    }),
  ];
  t.same(planned(all, 500n, 25n), { lsns: { a: 20, b: 10 }, heldBy: {}, shortBytes: 0 });
  const short = planned(all, 500n, 1000n);
  t.same(short, { lsns: { a: 30, b: 10 }, heldBy: { b: 'the floor' }, shortBytes: 960 });
  t.end();
});

t.test('what a reader, a pin or a sync needs stays, and what is behind it; others go on', (t) => {
  const both = [
    candidate(segments(0, 1, 2), { member: 'a', limit: { lsn: 15n, who: 'export 1' } }),
    candidate(segments(0, 1, 2), { member: 'b' }),
  ];
  t.same(planned(both, 5000n), { lsns: { a: 10, b: 30 }, heldBy: { a: 'export 1' }, shortBytes: 0 });
  const exact = [candidate(segments(0, 1, 2), { limit: { lsn: 20n, who: 'export 1' } })];
  t.same(planned(exact, 5000n).lsns, { m: 20 }, 'the base may stand where the reader reads');
  t.end();
});

t.test(
  'bases may grow before anything is freed: no more goes at once than there is room for, but one',
  (t) => {
    const own = [candidate(segments(0, 1, 2, 3))];
    t.same(planned(own, 5000n, 0n, 45n).lsns, { m: 20 });
    t.same(planned(own, 5000n, 0n, 0n).lsns, { m: 10 });
    t.end();
  },
);
