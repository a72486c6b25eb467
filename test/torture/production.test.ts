/** R7 as torture judges it: an error is forgiven where a fault means it to be seen, and nowhere else; a wait likewise. */
import t from 'tap';
import { GIVEN_UP } from './load.js';
import type { FaultKind } from './plan.js';
import { failedForNothing, pauseMsOf, unintendedPauseMs, type Strike } from './production.js';

const EIO = 5;
const MS = 1_000_000n;
const strike = (kind: FaultKind, fromMs: bigint, toMs: bigint): Strike => ({
  kind,
  beginNs: fromMs * MS,
  endNs: toMs * MS,
});
const operation = (
  kind: 'write' | 'flush',
  fromMs: bigint,
  toMs: bigint,
  errno = EIO,
  isFua = false,
): Parameters<typeof failedForNothing>[0][number] => ({
  kind,
  errno,
  isFua,
  submitNs: fromMs * MS,
  ackNs: toMs * MS,
});

await t.test('what fails is forgiven only while a fault lasts that fails', (t) => {
  const strikes = [strike('link-cut', 1000n, 2000n), strike('backing-write-fails', 3000n, 4000n)];
  const forgiven = [
    operation('write', 2900n, 3001n),
    operation('write', 3500n, 3501n),
    operation('flush', 3999n, 4200n),
    operation('write', 1500n, 1501n, 0),
    operation('write', 1500n, 1501n, GIVEN_UP),
  ];
  const unforgiven = [
    operation('write', 1500n, 1501n), // a cut link is nothing to production
    operation('write', 2900n, 2999n),
    operation('write', 4200n, 4201n),
    operation('flush', 4200n, 4201n),
  ];
  t.same(failedForNothing([...forgiven, ...unforgiven], strikes), unforgiven);
  t.same(failedForNothing(unforgiven, []), unforgiven);
  t.end();
});

await t.test('after a failed flush only flushes fail, until the backing is opened anew', (t) => {
  const strikes = [
    strike('backing-sync-fails', 1000n, 2000n),
    strike('link-cut', 3000n, 4000n),
    strike('agent-killed', 5000n, 6000n),
    strike('link-cut', 7000n, 8000n),
  ];
  const forgiven = [
    operation('flush', 2500n, 2501n),
    operation('write', 2500n, 2501n, EIO, true),
    operation('flush', 5900n, 5901n),
  ];
  const unforgiven = [
    operation('flush', 900n, 901n),
    operation('write', 2500n, 2501n),
    operation('flush', 6500n, 6501n),
    operation('write', 6500n, 6501n, EIO, true),
    operation('flush', 7500n, 7501n),
  ];
  t.same(failedForNothing([...forgiven, ...unforgiven], strikes), unforgiven);
  t.end();
});

await t.test('a wait is put down to the fault that it met; one that was meant is not counted', (t) => {
  const strikes = [strike('agent-stopped', 1000n, 2000n), strike('agent-killed', 5000n, 5500n)];
  const [stopped, killed] = strikes as [Strike, Strike];
  const operations = [operation('write', 1000n, 2100n, 0), operation('write', 5100n, 5700n, 0)];
  t.equal(pauseMsOf(operations, stopped), 1100);
  t.equal(pauseMsOf(operations, killed), 600);
  t.equal(unintendedPauseMs(operations, strikes, []), 600);
  t.equal(unintendedPauseMs(operations, [], []), 1100);
  // Who waited for two successors waited for each.
  t.equal(unintendedPauseMs(operations, [], [900n * MS, 1000n * MS]), 1100);
  t.equal(unintendedPauseMs(operations, [], [1000n * MS, 1500n * MS]), 600);
  t.equal(unintendedPauseMs(operations, [], [1000n * MS, 1100n * MS]), 1000);
  t.equal(unintendedPauseMs(operations, [], [5100n * MS, 5200n * MS, 1500n * MS]), 1100);
  t.end();
});
