import { readFileSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import * as native from '../../native/index.js';

const EXTENT = 4 << 20;
const BYTES = 6 * EXTENT;

/** A captured volume over a sparse file, with its dirty log. */
async function scene(t: Test) {
  const directory = t.testdir({ backing: Buffer.alloc(0) });
  const file = `${directory}/backing`;
  writeFileSync(file, Buffer.alloc(BYTES));
  const log = await native.openDirtyLog({
    path: `${directory}/log`,
    volume: Buffer.alloc(16, 4),
    volumeBytes: BigInt(BYTES),
    openingPatienceMs: 60_000,
  });
  const backing = await native.openFileDevice({
    path: file,
    cache: 'buffered',
    readOnly: false,
    exclusive: true,
  });
  const group = native.createCaptureGroup({
    group: Buffer.alloc(16, 1),
    member: Buffer.alloc(16, 2),
    ringBytes: 8n << 20n,
    lingerUs: 0,
    lastTimeNs: 0n,
    era: 1,
    spool: null,
  });
  const volume = group.addVolume(0, backing, log, null);
  t.teardown(async () => {
    await volume.close();
    await group.close();
    await backing.close();
  });
  return { path: `${directory}/log`, log, group, volume };
}

t.test('what is written through a volume is marked, and unmarked when nothing is in doubt', async (t) => {
  const { log, group, volume, path } = await scene(t);
  t.match(log.state(), { extents: 6n, marked: 6n, fault: '', flushFailed: false });
  t.match(log.state().distrust, /there is none/);
  group.beginGeneration({ epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: 1000n });
  await volume.cleanUp();
  t.equal(log.state().marked, 6n, 'nobody said that the receiver holds it');
  log.setSynced(1n);
  await volume.cleanUp();
  t.match(log.state(), { marked: 0n, basisLsn: 0n, basisGeneration: 1n });

  const { sequence, id } = log.state();
  t.ok(id > 0n && id < 2n ** 63n);
  await volume.write(BigInt(2 * EXTENT - 512), Buffer.alloc(1024, 7));
  t.same([...(await log.extents())], [0b0000_0110]);
  t.ok(log.isMarked(BigInt(EXTENT)));
  t.notOk(log.isMarked(0n));
  t.ok(log.state().sequence > sequence);
  t.throws(() => log.isMarked(BigInt(BYTES)), { code: 'INTERNAL' });
  await volume.cleanUp();
  t.equal(log.state().marked, 2n, 'the receiver does not have it yet');
  await log.markAll();
  t.equal(log.state().marked, 6n);
  t.ok(readFileSync(path).length > 8192);
});

t.test('a log that cannot be made is void, and says why', async (t) => {
  const directory = t.testdir({ file: 'not a directory' });
  const options = { volume: Buffer.alloc(16, 4), volumeBytes: BigInt(BYTES), openingPatienceMs: 60_000 };
  const log = await native.openDirtyLog({ path: `${directory}/file/log`, ...options });
  t.match(log.state(), { id: 0n, marked: 6n });
  t.match(log.state().fault, /Not a directory/);
  const tooLarge = {
    path: `${directory}/log`,
    volume: Buffer.alloc(16),
    volumeBytes: 2n ** 50n,
    openingPatienceMs: 1,
  };
  await t.rejects(native.openDirtyLog(tooLarge), { code: 'INTERNAL' });
});

t.test('what is no log of the addon is refused', async (t) => {
  const { group, volume } = await scene(t);
  t.throws(() => group.addVolume(1, volume, {} as native.DirtyLog, null), { code: 'INTERNAL' });
});
