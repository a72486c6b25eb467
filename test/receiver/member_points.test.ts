/** Which LSN a time names in a history whose clock was stepped. The records' times come from a list, not from frames. */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Catalog } from '../../receiver/catalog/catalog.js';
import type { MemberRow } from '../../receiver/catalog/members.js';
import { MemberPoints } from '../../receiver/member_points.js';
import { Store } from '../../receiver/store.js';

const LENGTH = 10;

interface Scene {
  points: MemberPoints;
  member: MemberRow;
}

/** LSNs 1…10 at 1000, 1100 … 1900 of the first era; then the clock is set, and LSNs 11…20 begin at `secondNs`. */
async function stepped(t: Test, secondNs: number, layout: 'a segment each' | 'one segment'): Promise<Scene> {
  const directory = t.testdir();
  await Store.init(path.join(directory, 'store'), randomUUID());
  const store = await Store.open(path.join(directory, 'store'), () => 0);
  const catalog = Catalog.open(store.catalogFile);
  t.teardown(() => catalog.close());
  const times = [1000, secondNs].flatMap((beginNs) =>
    Array.from({ length: LENGTH }, (_, index) => BigInt(beginNs + 100 * index)),
  );
  const timeOf = (lsn: bigint): bigint => times[Number(lsn) - 1] as bigint;
  const member: MemberRow = {
    uuid: randomUUID(),
    group: randomUUID(),
    host: 'host1',
    epoch: 1n,
    instance: Buffer.alloc(16),
    owner: null,
    ackedLsn: 20n,
    coverage: { lsn: 20n, timeNs: timeOf(20n) },
  };
  const { uuid } = member;
  catalog.members.addGroup({ uuid: member.group, name: 'db' });
  catalog.members.putMember(member);
  catalog.members.advance(uuid, member.ackedLsn, member.coverage);
  catalog.volumes.put({
    member: uuid,
    number: 0,
    uuid: randomUUID(),
    name: 'data',
    size: 512n,
    blockSize: 512,
    baseState: 'BASE_COMPLETE',
    baseLsn: 0n,
    syncOffset: 0n,
  });
  const ended = { lastLsn: null, endNs: null, endReason: '' };
  const ordered = { orderedLsn: 1n, orderedTimeNs: 1000n };
  catalog.generations.begin(
    { member: uuid, generation: 1n, firstLsn: 1n, beginNs: 1000n, reason: 'NEW', ...ended },
    [{ member: uuid, generation: 1n, number: 0, size: 512n, ...ordered }],
  );
  const segment = (firstLsn: bigint, lastLsn: bigint, firstEra: number, lastEra: number): void =>
    catalog.segments.put({
      member: uuid,
      generation: 1n,
      firstLsn,
      lastLsn,
      firstTimeNs: timeOf(firstLsn),
      lastTimeNs: timeOf(lastLsn),
      firstEra,
      lastEra,
      frames: 2,
      records: lastLsn - firstLsn + 1n,
      rawBytes: 0n,
      bytes: 4096n,
      link: 0,
      sealed: true,
      hasRun: false,
    });
  if (layout === 'one segment') segment(1n, 20n, 1, 2);
  else {
    segment(1n, 10n, 1, 1);
    segment(11n, 20n, 2, 2);
  }
  catalog.eras.add({ member: uuid, era: 1, firstLsn: 1n, firstTimeNs: 1000n, previousTimeNs: 0n });
  catalog.eras.add({
    member: uuid,
    era: 2,
    firstLsn: 11n,
    firstTimeNs: timeOf(11n),
    previousTimeNs: timeOf(10n),
  });
  const native = {
    timeAtLsn: (_: object, lsn: bigint) => Promise.resolve(timeOf(lsn)),
    lsnAtTime: ({ firstLsn, lastLsn }: { firstLsn: bigint; lastLsn: bigint }, timeNs: bigint) => {
      let lsn = firstLsn - 1n;
      while (lsn < lastLsn && timeOf(lsn + 1n) <= timeNs) lsn += 1n;
      return Promise.resolve(lsn);
    },
  };
  return { points: new MemberPoints({ catalog, store, native }), member };
}

for (const layout of ['a segment each', 'one segment'] as const) {
  t.test(`the clock was set back, ${layout}: a time that was twice names no point`, async (t) => {
    const { points, member } = await stepped(t, 1500, layout);
    const lsnAt = async (timeNs: bigint): Promise<bigint> => (await points.atTime(member, timeNs)).lsn;
    t.equal(await lsnAt(1450n), 5n, 'before the clock was back again');
    for (const timeNs of [1500n, 1700n, 1900n]) {
      await t.rejects(points.atTime(member, timeNs), {
        code: 'POINT_AMBIGUOUS',
        message: /was 2 times at host1: once after LSN 1, once after LSN 11/,
      });
    }
    t.equal(await lsnAt(1901n), 15n, 'after the first era had ended');
    t.equal(await lsnAt(2400n), 20n);
    t.match(
      await points.atLsn(member, 8n),
      { lsn: 8n, timeNs: 1700n },
      'by LSN each of the two can be named',
    );
    t.match(await points.atLsn(member, 13n), { lsn: 13n, timeNs: 1700n });
  });

  t.test(`the clock was set forward, ${layout}: a time that never was is that before the step`, async (t) => {
    const { points, member } = await stepped(t, 5000, layout);
    for (const [timeNs, lsn] of [
      [1900n, 10n],
      [3000n, 10n],
      [4999n, 10n],
      [5000n, 11n],
      [5150n, 12n],
    ] as const)
      t.equal((await points.atTime(member, timeNs)).lsn, lsn, `${timeNs}`);
  });
}
