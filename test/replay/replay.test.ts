import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { crc32c } from './crc32c.js';
import {
  HandMade,
  type MadeExtent,
  type MadeFrame,
  type MadeSegment,
  makeRun,
  writeMember,
} from './hand_made.js';
import { decompressLz4Block } from './lz4_block.js';
import { Contradiction, replayVolume, verifyRuns } from './replay.js';
import { parseRun } from './run.js';
import { readSegment } from './segment.js';

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const VOLUME_BYTES = 8192;

/** 1024 bytes: `abcd` and a match that copies it over and over, overlapping itself, then five literals. */
const LZ4_BLOCK = Buffer.concat([
  Buffer.from([0x4f]),
  Buffer.from('abcd'),
  Buffer.from([4, 0, 255, 255, 255, 1015 - 4 - 15 - 3 * 255]),
  Buffer.from([0x50]),
  Buffer.from('vwxyz'),
]);
const LZ4_RAW = Buffer.from('abcd'.repeat(254) + 'abc' + 'vwxyz');

function sectors(count: number, byte: number): Buffer {
  return Buffer.alloc(512 * count, byte);
}

/** Base, then two sealed segments: every kind, writes over writes, raw chunks and an LZ4 chunk. */
function twoSegments(): { first: Buffer; second: Buffer; positions: number[] } {
  const made = new HandMade();
  const first = made.segment({
    frames: [
      {
        records: [
          { kind: 'membership', offset: VOLUME_BYTES },
          { kind: 'write', offset: 512, data: sectors(4, 1) },
        ],
      },
      {
        records: [
          { kind: 'write', offset: 1024, data: LZ4_RAW },
          { kind: 'flush' },
          { kind: 'write', offset: 4096, data: sectors(1, 2) },
          { kind: 'void' },
        ],
        chunks: [
          { rawBytes: 1024, block: LZ4_BLOCK },
          { rawBytes: 512, block: null },
        ],
      },
    ],
  });
  const { positions } = made;
  const second = made.segment({
    frames: [
      {
        records: [
          { kind: 'clock', timeNs: 5n },
          { kind: 'zero', offset: 1024, length: 512 },
        ],
        era: 2,
      },
      { records: [{ kind: 'resize', offset: 4096 }], era: 2 },
      { records: [{ kind: 'resize', offset: VOLUME_BYTES }], era: 2 },
    ],
  });
  return { first, second, positions };
}

/** What the volume of twoSegments is right after each LSN, spelt out. */
function statesOfTwoSegments(base: Buffer): Map<bigint, Buffer> {
  const with1 = Buffer.concat([base.subarray(0, 512), sectors(4, 1), base.subarray(2560)]);
  const with2 = Buffer.concat([with1.subarray(0, 1024), LZ4_RAW, with1.subarray(2048)]);
  const with3 = Buffer.concat([with2.subarray(0, 4096), sectors(1, 2), with2.subarray(4608)]);
  const zeroed = Buffer.concat([with3.subarray(0, 1024), sectors(1, 0), with3.subarray(1536)]);
  const cut = zeroed.subarray(0, 4096);
  const grown = Buffer.concat([cut, Buffer.alloc(4096)]);
  const states = [base, with1, with2, with2, with3, with3, with3, zeroed, cut, grown];
  return new Map(states.map((state, index) => [BigInt(index + 1), state]));
}

function replay(directory: string, lsn: bigint, bytes = VOLUME_BYTES): Promise<Buffer> {
  return replayVolume({ directory, volume: 0, bytes, lsn });
}

/** The state after the last LSN of one segment, made of one description. */
async function replayMade(root: string, made: MadeSegment): Promise<Buffer> {
  const hand = new HandMade();
  const segment = hand.segment(made);
  const size = made.sizes?.[0] ?? VOLUME_BYTES;
  return replay(await writeMember(root, new Map([[1n, segment]])), hand.lsn - 1n, size);
}

void t.test('CRC-32C has the check value of the page', (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.equal(crc32c(Buffer.alloc(0)), 0);
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa, '32 zeroes, RFC 3720 appendix B.4');
  t.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43, '32 ones, RFC 3720 appendix B.4');
  t.end();
});

void t.test('LZ4 blocks', (t) => {
  const bytes = (...parts: (number | string)[]): Buffer =>
    Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))));
  const raw = (block: Buffer, rawBytes: number): string =>
    decompressLz4Block(block, rawBytes).toString('latin1');

  t.equal(raw(bytes(0x50, 'hello'), 5), 'hello', 'literals only');
  t.equal(raw(bytes(0x00), 0), '', 'nothing');
  t.equal(raw(bytes(0xf0, 1, 'x'.repeat(16)), 16), 'x'.repeat(16), 'continued literal length');
  t.equal(
    raw(bytes(0xf0, 255, 0, 'x'.repeat(270)), 270),
    'x'.repeat(270),
    'a length of 255 is continued by 0',
  );
  t.equal(raw(bytes(0x14, 'a', 1, 0, 0x50, 'vwxyz'), 14), 'a'.repeat(9) + 'vwxyz', 'match of offset 1');
  t.equal(raw(bytes(0x33, 'abc', 2, 0, 0x50, 'vwxyz'), 15), 'abcbcbcbcbvwxyz', 'match of offset 2');
  t.equal(decompressLz4Block(LZ4_BLOCK, 1024).compare(LZ4_RAW), 0, 'long overlapping match');
  const twice = bytes(0x40, 'abcd', 4, 0, 0x00, 8, 0, 0x80, 'stuvwxyz');
  t.equal(raw(twice, 20), 'abcdabcdabcdstuvwxyz', 'match right behind a match');

  const refused: [string, Buffer, number, RegExp][] = [
    ['offset 0', bytes(0x14, 'a', 0, 0, 0x50, 'vwxyz'), 14, /offset 0/],
    ['offset before the block', bytes(0x14, 'a', 2, 0, 0x50, 'vwxyz'), 14, /before the block/],
    ['match too long', bytes(0x14, 'a', 1, 0, 0x50, 'vwxyz'), 8, /match exceeds/],
    ['literals too long', bytes(0x50, 'hello'), 4, /literals exceed/],
    ['too little', bytes(0x50, 'hello'), 6, /fewer bytes/],
    ['4 literals at the end', bytes(0x18, 'a', 1, 0, 0x40, 'wxyz'), 17, /fewer than 5/],
    ['match within the last 12', bytes(0x10, 'a', 1, 0, 0x50, 'vwxyz'), 10, /last 12 bytes/],
    ['no token', bytes(), 0, /within a sequence/],
  ];
  for (const [name, block, rawBytes, message] of refused)
    t.throws(() => decompressLz4Block(block, rawBytes), { name: 'Contradiction', message }, name);
  for (let length = 0; length < LZ4_BLOCK.length; length++)
    t.throws(
      () => decompressLz4Block(LZ4_BLOCK.subarray(0, length), 1024),
      Contradiction,
      `cut to ${length}`,
    );
  t.end();
});

void t.test('a volume is rebuilt at every LSN', async (t) => {
  const { first, second } = twoSegments();
  const base = Buffer.from(Array.from({ length: VOLUME_BYTES }, (_, index) => (index * 7) & 0xff));
  const segments = new Map([
    [1n, first],
    [7n, second],
  ]);
  const directory = await writeMember(t.testdir(), segments, new Map(), [base]);
  for (const [lsn, state] of statesOfTwoSegments(base))
    t.equal((await replay(directory, lsn, state.length)).compare(state), 0, `LSN ${String(lsn)}`);
  await t.rejects(replay(directory, 0n), /in no frame/);
  await t.rejects(replay(directory, 11n), /in no frame/);
  await t.rejects(replay(directory, 9n), /has 4096 bytes at LSN 9, not 8192/);
  await t.rejects(replayVolume({ directory, volume: 1, bytes: 512, lsn: 1n }), /no segment lists volume 1/);

  const { stdout } = await run(process.execPath, [MAIN, directory, '0', '8192', '2'], { encoding: 'buffer' });
  t.equal(stdout.compare(statesOfTwoSegments(base).get(2n) ?? base), 0, 'command');
  await t.rejects(run(process.execPath, [MAIN, directory, '0', '8192', '99']), {
    code: 1,
    stderr: /in no frame/,
  });
  await t.rejects(run(process.execPath, [MAIN, directory, '0']), { code: 2, stderr: /usage/ });
});

void t.test('a short base image ends in zeroes, one too long is refused', async (t) => {
  const { first } = twoSegments();
  const directory = await writeMember(t.testdir(), new Map([[1n, first]]), new Map(), [sectors(1, 9)]);
  const expected = Buffer.concat([sectors(1, 9), Buffer.alloc(VOLUME_BYTES - 512)]);
  t.equal((await replay(directory, 1n)).compare(expected), 0);
  await writeMember(t.testdirName, new Map(), new Map(), [sectors(17, 9)]);
  await t.rejects(replay(directory, 1n), /base image has content beyond/);
});

/** Offsets of a segment to damage: every byte of headers and tables, some of the long stretches under one CRC. */
function offsetsToDamage(segment: Buffer, positions: number[]): number[] {
  const nearHeader = (at: number): boolean =>
    [0, ...positions].some((start) => at >= start && at < start + 320);
  return Array.from(segment.keys()).filter(
    (at) => nearHeader(at) || at % 41 === 0 || at > segment.length - 16,
  );
}

function damaged(segment: Buffer, at: number): Buffer {
  const bytes = Buffer.from(segment);
  bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (at & 7)), at);
  return bytes;
}

/** How many frames a reader takes from a damaged segment; null if it refuses the segment. */
function framesOf(segment: Buffer): { count: number; fault: string | null } | null {
  try {
    const { frames, fault } = readSegment(segment, null);
    return { count: frames.length, fault };
  } catch (error) {
    if (error instanceof Contradiction) return null;
    throw error;
  }
}

void t.test('any changed bit ends a segment before the frame it lies in, and so does a cut', (t) => {
  const { first, positions } = twoSegments();
  const framesBefore = (at: number): number => positions.filter((start) => start <= at).length - 1;
  const wrong: string[] = [];
  for (const at of offsetsToDamage(first, positions)) {
    const found = framesOf(damaged(first, at));
    const isRight = at < 4096 ? found === null : found?.count === framesBefore(at) && found.fault !== null;
    if (!isRight) wrong.push(`bit of byte ${at} changed`);
  }
  for (let length = 0; length < first.length; length++) {
    const found = framesOf(first.subarray(0, length));
    const isRight = length < 4096 ? found === null : found?.count === framesBefore(length);
    const isClean = length === 4096 || positions.includes(length);
    if (!isRight || (found !== null && (found.fault === null) !== isClean)) wrong.push(`cut to ${length}`);
  }
  t.same(wrong, []);
  t.end();
});

void t.test('damage of a segment that is not the last is refused', async (t) => {
  const { first, second, positions } = twoSegments();
  const root = t.testdir();
  const directory = await writeMember(root, new Map([[7n, second]]));
  const replayWith = async (bytes: Buffer): Promise<Buffer> => {
    await writeMember(root, new Map([[1n, bytes]]));
    return replay(directory, 10n);
  };
  await t.rejects(replayWith(damaged(first, 70)), /segment header_crc32c/);
  await t.rejects(replayWith(damaged(first, 4100)), /frame header_crc32c/);
  await t.rejects(replayWith(damaged(first, first.length - 1)), /crc32c|padding/);
  await t.rejects(replayWith(first.subarray(0, first.length - 8)), /beyond the end of the file/);
  await t.rejects(replayWith(first.subarray(0, positions[1])), /records are missing/);
  t.ok(
    await replayWith(Buffer.concat([first, Buffer.alloc(64)])),
    'zeroes behind the last frame are a clean end',
  );
});

void t.test('a segment in the middle may be torn where the next one goes on', async (t) => {
  const base = Buffer.alloc(VOLUME_BYTES, 7);
  const { first, second } = twoSegments();
  const states = statesOfTwoSegments(base);
  const last = [...states.keys()].at(-1) ?? 0n;
  const torn = Buffer.concat([first, Buffer.alloc(9000, 0xee)]);
  const nextLsn = second.readBigUInt64LE(56);
  const files = new Map([
    [1n, torn],
    [nextLsn, second],
  ]);
  const content = await replay(await writeMember(t.testdir(), files, new Map(), [base]), last);
  t.ok(content.equals(states.get(last) ?? Buffer.alloc(0)));
});

void t.test('records that the base is younger than are not applied to it', async (t) => {
  const base = Buffer.alloc(VOLUME_BYTES, 7);
  const { first, second } = twoSegments();
  const files = new Map([
    [1n, first],
    [second.readBigUInt64LE(56), second],
  ]);
  const directory = await writeMember(t.testdir(), files, new Map(), [base]);
  const options = { directory, volume: 0, bytes: VOLUME_BYTES, baseLsn: 2n };
  t.ok((await replayVolume({ ...options, lsn: 2n })).equals(base));
  const with3 = Buffer.concat([base.subarray(0, 1024), LZ4_RAW, base.subarray(2048)]);
  t.ok((await replayVolume({ ...options, lsn: 3n })).equals(with3));
});

void t.test('the last segment ends before its torn tail', async (t) => {
  const { first, positions } = twoSegments();
  const state = statesOfTwoSegments(Buffer.alloc(VOLUME_BYTES)).get(2n) ?? Buffer.alloc(0);
  const tornAt = (positions[1] ?? 0) + 200;
  const tails = [
    damaged(first, tornAt),
    first.subarray(0, tornAt),
    Buffer.concat([first.subarray(0, tornAt), Buffer.alloc(9000)]),
  ];
  for (const torn of tails) {
    const directory = await writeMember(t.testdir(), new Map([[1n, torn]]));
    t.equal((await replay(directory, 2n)).compare(state), 0);
    await t.rejects(replay(directory, 3n), /LSN 3 is in no frame/);
  }
});

void t.test('what contradicts the page is refused, however right its checksums', async (t) => {
  const write: MadeFrame = { records: [{ kind: 'write', data: sectors(1, 1) }] };
  const two: MadeFrame = { records: [...write.records, { kind: 'write', offset: 512, data: sectors(1, 2) }] };
  const ofRecord = (at: number, size: 1 | 2 | 4 | 8, value: number, frame = write): MadeSegment => ({
    frames: [{ ...frame, tablePatches: [{ at, size, value }] }],
  });
  const ofFrame = (at: number, size: 1 | 2 | 4 | 8, value: number): MadeSegment => ({
    frames: [{ ...write, headerPatches: [{ at, size, value }] }],
  });
  const ofSegment = (at: number, size: 1 | 2 | 4 | 8, value: number): MadeSegment => ({
    frames: [write],
    headerPatches: [{ at, size, value }],
  });
  const long = sectors(129, 3);
  const chunked = (...rawBytes: number[]): MadeSegment => ({
    sizes: [131_072],
    frames: [
      {
        records: [{ kind: 'write', data: long }],
        chunks: rawBytes.map((raw) => ({ rawBytes: raw, block: null })),
      },
    ],
  });

  const accepted: [string, MadeSegment][] = [
    ['as it is', { frames: [write, two] }],
    ['uncritical flags', ofSegment(12, 4, 0xffff)],
    ['uncritical flags of a frame', ofFrame(12, 4, 0xffff)],
    ['reserved bytes', ofFrame(132, 8, 7)],
    ['a record over two chunks', chunked(65_536, 512)],
  ];
  for (const [name, made] of accepted) t.ok(await replayMade(t.testdir(), made), name);

  const refused: [string, MadeSegment, RegExp][] = [
    ['kind 0', ofRecord(0, 1, 0), /kind 0/],
    ['kind 8', ofRecord(0, 1, 8), /kind 8/],
    ['volume not listed', ofRecord(2, 2, 1), /segment lacks/],
    ['volume 64', ofRecord(2, 2, 64), /above 63/],
    ['length not of sectors', ofRecord(4, 4, 511), /multiple of 512/],
    ['write of nothing', ofRecord(4, 4, 0), /write of 0 bytes/],
    ['write of too much', ofRecord(4, 4, 1_049_088), /write of 1049088/],
    ['offset not of sectors', ofRecord(8, 8, 8), /multiple of 512/],
    ['beyond the volume', ofRecord(8, 8, VOLUME_BYTES), /exceeds volume/],
    ['payload_offset', ofRecord(24, 4, 8), /payload_offset/],
    ['payload_offset of the second', ofRecord(56, 4, 0, two), /payload_offset/],
    ['writes longer than the payload', ofRecord(4, 4, 1024), /raw_bytes/],
    ['flush with a length', { frames: [{ records: [{ kind: 'flush', length: 512 }] }] }, /has a length/],
    ['zero of nothing', { frames: [{ records: [{ kind: 'zero' }] }] }, /zero of 0/],
    ['clock within', { frames: [{ records: [{ kind: 'flush' }, { kind: 'clock' }] }] }, /not the first/],
    ['clock without an era', { frames: [write, { records: [{ kind: 'clock' }] }] }, /no new era/],
    ['era comes back', { frames: [write, { ...write, era: 2 }, write] }, /comes back/],
    [
      'time stands still',
      { frames: [write, { records: [{ kind: 'flush', timeNs: 3n }] }] },
      /time does not rise/,
    ],
    [
      'time within a frame',
      {
        frames: [
          {
            records: [
              { kind: 'flush', timeNs: 3n },
              { kind: 'flush', timeNs: 3n },
            ],
          },
        ],
      },
      /rise/,
    ],
    ['first_time_ns', ofFrame(80, 8, 1), /first_time_ns/],
    ['last_time_ns', ofFrame(88, 8, 1), /last_time_ns/],
    ['chunk not behind the one before', ofRecord(84, 4, 8, two), /right behind/],
    ['chunk larger than stored raw', ofRecord(40, 4, 0x8000_0000 + 504), /is stored in/],
    ['chunk stored as large', ofRecord(40, 4, 512), /is stored in/],
    ['chunk 0 later', ofRecord(32, 4, 8), /offset 0/],
    ['chunk of too much', chunked(66_048), /chunk of 66048/],
    ['cut within a record', chunked(512, 65_536), /within a record/],
    ['payload without chunks', { frames: [{ ...write, chunks: [] }] }, /without chunks|raw_bytes/],
    ['LZ4 of another size', { frames: [{ ...write, chunks: [{ rawBytes: 512, block: LZ4_BLOCK }] }] }, /LZ4/],
    ['magic', ofSegment(0, 1, 0x61), /magic/],
    ['version', ofSegment(8, 2, 2), /version 2/],
    ['header_bytes', ofSegment(10, 2, 4104), /header_bytes/],
    ['critical flag', ofSegment(12, 4, 0x10000), /critical/],
    ['another group', ofSegment(16, 1, 0), /another group/],
    ['another member', ofSegment(32, 1, 0), /another member/],
    ['another LSN', ofSegment(56, 8, 2), /not named/],
    ['no volumes', ofSegment(68, 4, 0), /of 0 volumes/],
    ['unused volume entry', ofSegment(128, 8, 1), /unused/],
    ['block size', ofSegment(100, 4, 1024), /block_size/],
    ['size not of sectors', ofSegment(120, 8, 8000), /multiple of 512/],
    ['epoch falls', { frames: [{ ...write, epoch: 2n }, write] }, /in no frame/],
    ['frame magic', ofFrame(0, 1, 0x61), /in no frame/],
    ['frame version', ofFrame(8, 2, 2), /in no frame/],
    ['frame header_bytes', ofFrame(10, 2, 168), /in no frame/],
    ['frame critical flag', ofFrame(12, 4, 0x8000_0000), /in no frame/],
    ['frame of another group', ofFrame(16, 1, 0), /in no frame/],
    ['frame of another member', ofFrame(32, 1, 0), /in no frame/],
    ['frame of another generation', ofFrame(56, 8, 2), /in no frame/],
    ['frame first_lsn', ofFrame(64, 8, 2), /in no frame/],
    ['frame last_lsn', ofFrame(72, 8, 2), /in no frame/],
    ['codec', ofFrame(108, 2, 2), /in no frame/],
    ['frame_bytes', ofFrame(120, 4, 712), /in no frame/],
    ['link', ofFrame(124, 4, 1), /in no frame/],
  ];
  for (const [name, made, message] of refused)
    await t.rejects(replayMade(t.testdir(), made), { name: 'Contradiction', message }, name);
});

void t.test('neighbours must follow each other', async (t) => {
  const frames: MadeFrame[] = [{ records: [{ kind: 'write', data: sectors(1, 1) }] }];
  const attempt = async (
    change: (made: HandMade) => void,
    second: Partial<MadeSegment> = {},
    bytes = VOLUME_BYTES,
  ): Promise<Buffer> => {
    const made = new HandMade();
    const segments = new Map([[1n, made.segment({ frames })]]);
    change(made);
    const lsn = made.lsn;
    segments.set(lsn, made.segment({ frames, ...second }));
    const directory = await writeMember(t.testdir(), segments);
    t.equal((await replay(directory, 1n)).length, VOLUME_BYTES, 'before it nothing has changed');
    return replay(directory, lsn, bytes);
  };

  t.ok(await attempt(() => undefined), 'as it is');
  t.ok(await attempt((made) => (made.lsn = 9n), { generation: 2n }), 'a gap before a generation');
  t.ok(await attempt(() => undefined, { generation: 2n, sizes: [8192, 512] }), 'a volume joins');
  const grown = await attempt(() => undefined, { generation: 2n, sizes: [8704] }, 8704);
  t.same(grown.subarray(8192), Buffer.alloc(512), 'a volume that has grown has zeroes there');
  await t.rejects(
    attempt(() => undefined, { generation: 2n, sizes: [7680] }),
    /header gives volume 0 7680/,
  );
  await t.rejects(
    attempt((made) => (made.lsn = 9n)),
    /records are missing/,
  );
  await t.rejects(
    attempt((made) => (made.link = 1)),
    /link is not the CRC/,
  );
  await t.rejects(
    attempt(() => undefined, { generation: 0n }),
    /generation falls/,
  );
  await t.rejects(
    attempt(() => undefined, { generation: 2n, headerPatches: [{ at: 64, size: 4, value: 1 }] }),
    /link of the first segment/,
  );
  await t.rejects(
    attempt(() => undefined, { sizes: [8192, 512] }),
    /joins within a generation/,
  );
  await t.rejects(
    attempt(() => undefined, { sizes: [8704] }),
    /header gives volume 0 8704 bytes/,
  );
  await t.rejects(
    attempt(() => undefined, { headerPatches: [{ at: 104, size: 1, value: 1 }] }),
    /another volume than before/,
  );
  await t.rejects(
    attempt(() => undefined, { frames: frames.map((frame) => ({ ...frame, epoch: 0n })) }),
    /in no frame/,
    'epoch falls from one segment to the next',
  );
});

void t.test('runs are compared with the extents of their segments', async (t) => {
  const { first, second, positions } = twoSegments();
  const [frame0 = 0, frame1 = 0] = positions;
  const extents: MadeExtent[] = [
    { start: 1, length: 1, frame: frame0, record: 1 },
    { start: 2, length: 2, frame: frame1, record: 0 },
    { start: 4, length: 1, frame: frame0, record: 1, recordSector: 3 },
    { start: 8, length: 1, frame: frame1, record: 2 },
  ];
  const ofSecond: MadeExtent[] = [
    { start: 2, length: 1 },
    { start: 8, length: 8 },
  ];
  const ofBoth: MadeExtent[] = [
    ...extents.slice(0, 1),
    { start: 2, length: 1, segment: 1 },
    { start: 3, length: 1, frame: frame1, record: 0, recordSector: 1 },
    ...extents.slice(2, 3),
    { start: 8, length: 8, segment: 1 },
  ];
  const segments = new Map([
    [1n, first],
    [7n, second],
  ]);
  const verify = async (runs: [bigint, Buffer][]): Promise<string[]> =>
    verifyRuns(await writeMember(t.testdir(), segments, new Map(runs)));

  t.same(await verify([]), [], 'no runs');
  const singles: [bigint, Buffer][] = [
    [1n, makeRun([first], [extents])],
    [7n, makeRun([second], [ofSecond])],
  ];
  t.same(await verify(singles), [], 'one run per segment');
  t.same(await verify([[1n, makeRun([first, second], [ofBoth])]]), [], 'one run over both');
  const finer = [...ofSecond.slice(0, 1), { start: 8, length: 3 }, { start: 11, length: 5 }];
  t.same(await verify([[7n, makeRun([second], [finer])]]), [], 'cut more finely');

  const different: [string, bigint, Buffer, RegExp[]][] = [
    [
      'an extent is missing',
      1n,
      makeRun([first], [extents.slice(1)]),
      [/lacks sectors 1\+1: segment 0 frame 4096/],
    ],
    [
      'an extent too many',
      7n,
      makeRun([second], [[{ start: 0, length: 1 }, ...ofSecond]]),
      [/has sectors 0\+1/],
    ],
    [
      'another segment',
      1n,
      makeRun([first, second], [[...ofBoth.slice(0, 4), { start: 8, length: 8 }]]),
      [/lacks/, /has/],
    ],
    ['no volume', 7n, makeRun([second], [[]]), [/lacks sectors 2\+1/, /lacks sectors 8\+8/]],
    ['another volume', 7n, makeRun([second], [[], ofSecond]), [/uuid/, /has/, /has/, /lacks/, /lacks/]],
    [
      'overlap',
      7n,
      makeRun(
        [second],
        [
          [
            { start: 2, length: 7 },
            { start: 8, length: 8 },
          ],
        ],
      ),
      [/overlap/],
    ],
    ['stale', 1n, makeRun([first, first], [extents]), [/stale/]],
    ['of another segment', 1n, makeRun([second], [ofSecond]), [/not named/]],
  ];
  for (const [name, lsn, bytes, expected] of different) {
    const differences = await verify([[lsn, bytes]]);
    t.equal(differences.length, expected.length, `${name}: ${differences.join('; ')}`);
    expected.forEach((pattern, index) => t.match(differences[index], pattern, name));
  }

  for (const [name, at] of Object.entries({ generation: 48, link: second.length - 192 + 156 })) {
    const other = damaged(second, at);
    t.match(await verify([[7n, makeRun([other], [ofSecond])]]), [/stale/], `stale: another ${name}`);
  }

  const whole = makeRun([second], [ofSecond]);
  const unnoticed: number[] = [];
  for (let at = 0; at < whole.length; at += at < 240 ? 1 : 61) {
    try {
      parseRun(damaged(whole, at));
      unnoticed.push(at);
    } catch (error) {
      if (!(error instanceof Contradiction)) throw error;
    }
  }
  t.same(unnoticed, [], 'any changed bit is noticed');
  t.throws(() => parseRun(whole.subarray(0, -1)), Contradiction, 'cut');

  const directory = await writeMember(t.testdir(), segments, new Map(singles));
  await run(process.execPath, [MAIN, '--verify-runs', directory]);
  await writeFile(join(directory, 'journal', '00000000000000000007.run'), makeRun([second], [[]]));
  await t.rejects(run(process.execPath, [MAIN, '--verify-runs', directory]), { code: 1, stdout: /lacks/ });
});

void t.test('a run of many extents fills several pages', async (t) => {
  const made = new HandMade();
  const count = 600;
  const records = Array.from({ length: count }, (_, index) => ({
    kind: 'write' as const,
    offset: 1024 * index,
    data: sectors(1, index & 0xff),
  }));
  const chunks = Array.from({ length: 5 }, () => ({ rawBytes: 61_440, block: null }));
  const segment = made.segment({ sizes: [1024 * count], frames: [{ records, chunks }] });
  const extents = records.map((_, index) => ({ start: 2 * index, length: 1, frame: 4096, record: index }));
  const runs = new Map([[1n, makeRun([segment], [extents])]]);
  t.same(await verifyRuns(await writeMember(t.testdir(), new Map([[1n, segment]]), runs)), []);
});
