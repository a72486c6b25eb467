/** What goes with a pin, and what a lock keeps, is told before. */
import t from 'tap';
import { lockCost, unpinLoss } from '../../cli/pin_consequence.js';
import { groupStatus, checkpoint } from './canned.js';

const HOUR_NS = 3_600_000_000_000n;
const GIB = 1n << 30n;
const kept = (name: string, hour: bigint, pinned = true) => ({
  ...checkpoint,
  name,
  timeNs: hour * HOUR_NS,
  pinned,
});
/** Held from hour 100 to hour 200, of which the configuration wants the last 24. */
const member = {
  ...groupStatus(),
  windowBeginNs: 100n * HOUR_NS,
  windowEndNs: 200n * HOUR_NS,
  retentionWindowNs: 24n * HOUR_NS,
  journalBytes: 100n * GIB,
};

t.test('what is held for the sake of a pin', (t) => {
  const one = kept('one', 100n);
  t.equal(unpinLoss(one, [one], [member]), '76 h 00 m of history, about 76.0 GiB');
  const later = kept('later', 170n);
  t.equal(unpinLoss(later, [later], [member]), '6 h 00 m of history, about 6.0 GiB');
  t.equal(unpinLoss(one, [one], [member, member]), '76 h 00 m of history, about 152.0 GiB', 'of two hosts');
  t.end();
});

t.test('what is held in any case', (t) => {
  const [one, other] = [kept('one', 100n), kept('other', 99n)];
  t.equal(unpinLoss(one, [one, other], [member]), null, 'an older pin');
  t.match(unpinLoss(one, [one, kept('other', 99n, false)], [member]), /76 h/, 'which is none');
  const recent = kept('recent', 190n);
  t.equal(unpinLoss(recent, [recent], [member]), null, 'the window');
  t.equal(
    unpinLoss(one, [one], [{ ...member, windowBeginNs: 0n, windowEndNs: 0n }]),
    null,
    'nothing is held',
  );
  t.end();
});

t.test('what a lock keeps', (t) => {
  t.equal(lockCost(30n * 24n * HOUR_NS, [member]), 'about 24.0 GiB a day, 720.0 GiB by then');
  t.equal(lockCost(HOUR_NS, [member, member]), 'about 48.0 GiB a day, 2.0 GiB by then', 'of two hosts');
  t.equal(lockCost(HOUR_NS, [{ ...member, windowBeginNs: 0n, windowEndNs: 0n }]), null, 'nothing is held');
  t.equal(
    lockCost(HOUR_NS, [{ ...member, windowBeginNs: 0n, windowEndNs: 2_000_000_000n }]),
    null,
    'a burst',
  );
  t.end();
});
