/** How fast a base is moved. The catalog, the journal and the base are stand-ins; time is what was slept. */
import t from 'tap';
import { BaseRoll, type BaseRollParts } from '../../../receiver/retention/base_roll.js';
import type { MemberRow } from '../../../receiver/catalog/members.js';
import type { MemberJournal } from '../../../receiver/journal/journal.js';

const MIB = 1n << 20n;

/** Moves `total` bytes at `rates`, the last of which stays; what was written piece by piece, and slept in all. */
async function moved(total: bigint, rates: readonly (bigint | null)[]) {
  const pieces: bigint[] = [];
  let left = total;
  let sleptMs = 0;
  let isMoved = false;
  let asked = 0;
  const roll = {
    advance: (bytes: bigint) => {
      const bytesWritten = bytes < left ? bytes : left;
      pieces.push(bytesWritten);
      left -= bytesWritten;
      return Promise.resolve({ bytesWritten, isDone: left === 0n });
    },
    sync: () => Promise.resolve((isMoved = true)),
    close: () => Promise.resolve(),
  };
  const volume = { baseState: 'BASE_COMPLETE', baseLsn: 0n, size: total };
  const parts = {
    catalog: { windows: { held: () => ({ oldestLsn: 9n }) }, volumes: { volumes: () => [volume] } },
    store: { baseFile: () => 'base' },
    access: { beginRoll: () => ({ isStopped: false, end: () => undefined }) },
    native: { openRollForward: () => Promise.resolve(roll) },
    sleep: (ms: number) => Promise.resolve((sleptMs += ms)),
    atStage: () => undefined,
  } as unknown as BaseRollParts;
  const journal = { tiles: () => [{ segment: { lastLsn: 9n } }] } as unknown as MemberJournal;
  const rateMax = () => Promise.resolve(rates[Math.min(asked++, rates.length - 1)] ?? null);
  await new BaseRoll(parts).finish({} as MemberRow, journal, rateMax, () => isMoved);
  return { pieces, sleptMs };
}

t.test('no faster than it may, in pieces of an eighth of a second', async (t) => {
  const { pieces, sleptMs } = await moved(16n * MIB, [2n * MIB]);
  t.same(new Set(pieces), new Set([MIB / 4n]));
  t.equal(sleptMs, 7875, 'eight seconds but for the last piece');
});

t.test('a rate that changes counts from the next piece on; without one nobody waits', async (t) => {
  const { pieces, sleptMs } = await moved(16n * MIB, [2n * MIB, null]);
  t.same(pieces, [MIB / 4n, 4n * MIB, 4n * MIB, 4n * MIB, (15n * MIB) / 4n]);
  t.equal(sleptMs, 125);
});
