import t from 'tap';
import { layouts, refusal } from '../../agent/layouts.js';

t.test('a program is a successor if it reads the versions that its predecessor writes', (t) => {
  const ours = { ring: { oldest: 2, written: 3 }, slots: { oldest: 1, written: 1 } };
  t.equal(refusal(ours, ours), null);
  t.equal(
    refusal(ours, { ...ours, ring: { oldest: 3, written: 9 }, other: { oldest: 1, written: 1 } }),
    null,
  );
  const refused = [
    [{ ...ours, ring: { oldest: 4, written: 9 } }, /cannot read ring of version 3 \(it reads 4 to 9\)$/],
    [{ ...ours, ring: { oldest: 1, written: 2 } }, /ring of version 3/],
    [{ ring: ours.ring }, /cannot read slots of version 1 \(it reads none\)/],
    [{}, /ring of version 3.*, slots of version 1/],
  ] as const;
  for (const [theirs, reason] of refused) t.match(refusal(ours, theirs), reason);
  t.end();
});

t.test('everything that a successor is left is told', (t) => {
  const told = layouts();
  t.same(Object.keys(told).sort(), ['inFlight', 'ring', 'settings', 'slots']);
  for (const [kind, { oldest, written }] of Object.entries(told))
    t.ok(Number.isInteger(oldest) && oldest >= 1 && oldest <= written, kind);
  t.equal(refusal(told, told), null);
  t.end();
});
