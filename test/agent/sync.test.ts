import { createHmac, randomBytes } from 'node:crypto';
import t from 'tap';
import type { Clock } from '../../agent/clock.js';
import { Sync, type SyncVolume } from '../../agent/sync.js';
import { hashBlocks, type SyncPiece } from '../../native/index.js';

const KIB = 1024;
const BLOCK = 64 * KIB;

/** A volume in memory that notes what was republished, and says no a few times first. */
class MemoryVolume implements SyncVolume {
  readonly republished: { offset: bigint; length: number }[] = [];
  refusals = 0;
  isClosed = false;
  constructor(readonly bytes: Buffer) {}
  read(offset: bigint, into: Buffer): Promise<void> {
    this.bytes.copy(into, 0, Number(offset), Number(offset) + into.length);
    return Promise.resolve();
  }
  hashBlocks(offset: bigint, length: number, blockBytes: number, key: Buffer): Promise<Buffer> {
    const begin = Number(offset);
    return hashBlocks(this.bytes.subarray(begin, begin + length), blockBytes, key);
  }
  async readPiece(offset: bigint, into: Buffer): Promise<SyncPiece> {
    await this.read(offset, into);
    return { bytes: into.length, compressed: false, crc32c: 0 };
  }
  republish(offset: bigint, length: number): Promise<bigint | null> {
    if (this.refusals > 0) {
      this.refusals -= 1;
      return Promise.resolve(null);
    }
    this.republished.push({ offset, length });
    return Promise.resolve(this.isClosed ? 0n : 1n);
  }
}

const hashKey = randomBytes(32);
function hashesOf(bytes: Buffer): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK) {
    blocks.push(
      createHmac('sha256', hashKey)
        .update(bytes.subarray(at, at + BLOCK))
        .digest(),
    );
  }
  return Buffer.concat(blocks);
}

function makeSync(overrides: { ringBusy?: () => boolean; stopping?: AbortSignal; rateMax?: bigint } = {}) {
  const sleeps: number[] = [];
  let nowMs = 0;
  const clock: Clock = {
    nowNs: () => 0n,
    monotonicMs: () => nowMs,
    random: () => 0,
    sleep: (ms, signal) => {
      if (signal.aborted) return Promise.reject(new Error('aborted'));
      sleeps.push(ms);
      nowMs += ms;
      return Promise.resolve();
    },
  };
  const stopping = overrides.stopping ?? new AbortController().signal;
  const { ringBusy = () => false, rateMax = null } = overrides;
  const sync = new Sync(ringBusy, rateMax, clock, stopping);
  return { sync, sleeps, passMs: (ms: number) => void (nowMs += ms), elapsedMs: () => nowMs };
}

t.test('blocks are hashed as RFC 2104 says', async (t) => {
  for (const bytes of [1, BLOCK, 3 * BLOCK + 512].map((length) => randomBytes(length))) {
    t.same(await hashBlocks(bytes, BLOCK, hashKey), hashesOf(bytes));
  }
  t.equal((await hashBlocks(Buffer.alloc(0), BLOCK, hashKey)).length, 0);
  await t.rejects(hashBlocks(Buffer.alloc(1), 0, hashKey));
});

t.test('a volume that equals the receiver is not republished, whatever its last block is', async (t) => {
  const bytes = randomBytes(3 * BLOCK + 512);
  const volume = new MemoryVolume(bytes);
  const { sync } = makeSync();
  const range = { offset: 0n, length: bytes.length };
  t.equal(
    (await sync.compare(volume, range, { blockBytes: BLOCK, hashes: hashesOf(bytes), hashKey })).isOpen,
    true,
  );
  t.strictSame(volume.republished, []);
});

t.test('neighbouring blocks that differ are republished together, single ones alone', async (t) => {
  const bytes = randomBytes(8 * BLOCK + 4096);
  const theirs = Buffer.from(bytes);
  for (const block of [0, 1, 4, 8]) theirs[block * BLOCK + 17]! ^= 1;
  const volume = new MemoryVolume(Buffer.concat([Buffer.alloc(BLOCK), bytes]));
  const { sync } = makeSync();
  const range = { offset: BigInt(BLOCK), length: bytes.length };
  await sync.compare(volume, range, { blockBytes: BLOCK, hashes: hashesOf(theirs), hashKey });
  t.strictSame(volume.republished, [
    { offset: BigInt(BLOCK), length: 2 * BLOCK },
    { offset: BigInt(5 * BLOCK), length: BLOCK },
    { offset: BigInt(9 * BLOCK), length: 4096 },
  ]);
});

t.test('no republished stretch is longer than a record', async (t) => {
  const bytes = randomBytes(40 * BLOCK);
  const volume = new MemoryVolume(bytes);
  const hashes = Buffer.alloc(40 * 32);
  await makeSync().sync.compare(
    volume,
    { offset: 0n, length: bytes.length },
    { blockBytes: BLOCK, hashes, hashKey },
  );
  t.strictSame(
    volume.republished.map(({ length }) => length),
    [16 * BLOCK, 16 * BLOCK, 8 * BLOCK],
  );
});

t.test('a ring that is half full makes the resync wait and then go on', async (t) => {
  const volume = new MemoryVolume(randomBytes(BLOCK));
  volume.refusals = 3;
  const { sync, sleeps } = makeSync();
  const expected = { blockBytes: BLOCK, hashes: Buffer.alloc(32), hashKey };
  t.equal((await sync.compare(volume, { offset: 0n, length: BLOCK }, expected)).isOpen, true);
  t.equal(sleeps.length, 3);
  t.equal(volume.republished.length, 1);
});

t.test('a stream that was closed ends the comparison at once', async (t) => {
  const volume = new MemoryVolume(randomBytes(40 * BLOCK));
  volume.isClosed = true;
  const expected = { blockBytes: BLOCK, hashes: Buffer.alloc(40 * 32), hashKey };
  t.equal(
    (await makeSync().sync.compare(volume, { offset: 0n, length: 40 * BLOCK }, expected)).isOpen,
    false,
  );
  t.equal(volume.republished.length, 1);
});

t.test('an agent that stops does not wait for room in the ring', async (t) => {
  const volume = new MemoryVolume(randomBytes(BLOCK));
  volume.refusals = Infinity;
  const { sync } = makeSync({ stopping: AbortSignal.abort() });
  const expected = { blockBytes: BLOCK, hashes: Buffer.alloc(32), hashKey };
  await t.rejects(sync.compare(volume, { offset: 0n, length: BLOCK }, expected), { code: 'INTERRUPTED' });
});

t.test('hashes of another number of blocks are refused', async (t) => {
  const volume = new MemoryVolume(randomBytes(2 * BLOCK));
  const expected = { blockBytes: BLOCK, hashes: Buffer.alloc(32), hashKey };
  await t.rejects(makeSync().sync.compare(volume, { offset: 0n, length: 2 * BLOCK }, expected), {
    code: 'MESSAGE_INVALID',
  });
});

t.test('reading for an initial sync stands back while production fills the ring', async (t) => {
  let asked = 0;
  const { sync, sleeps } = makeSync({ ringBusy: () => (asked += 1) <= 2 });
  await sync.readPiece(new MemoryVolume(Buffer.alloc(BLOCK)), 0n, Buffer.alloc(BLOCK));
  t.equal(sleeps.length, 2);
});

t.test('what is read is bounded, comparison, republication and initial sync together', async (t) => {
  const bytes = randomBytes(16 * BLOCK);
  const volume = new MemoryVolume(bytes);
  const { sync, elapsedMs } = makeSync({ rateMax: BigInt(bytes.length) });
  const range = { offset: 0n, length: bytes.length };
  const expected = { blockBytes: BLOCK, hashes: hashesOf(bytes), hashKey };
  for (let second = 1; second <= 5; second += 1) {
    await sync.compare(volume, range, expected);
    t.equal(elapsedMs(), second * 1000);
  }
  await sync.compare(volume, range, { ...expected, hashes: Buffer.alloc(16 * 32) });
  t.equal(elapsedMs(), 7000, 'what is read once more for its record counts once more');
  await sync.readPiece(volume, 0n, Buffer.alloc(bytes.length));
  t.equal(elapsedMs(), 8000);
});

t.test('a sync that had nothing to do for a day does not make up for it', async (t) => {
  const bytes = randomBytes(16 * BLOCK);
  const { sync, sleeps, passMs } = makeSync({ rateMax: BigInt(bytes.length) });
  passMs(86_400_000);
  for (let second = 0; second < 10; second += 1)
    await sync.readPiece(new MemoryVolume(bytes), 0n, Buffer.alloc(bytes.length));
  t.equal(
    sleeps.reduce((sum, ms) => sum + ms, 0),
    9000,
    'but for one second',
  );
});
