/** What a resync costs against what differed, where nobody writes meanwhile (R8). */
import { readFile } from 'node:fs/promises';
import { openFileDevice } from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { HASH_BYTES } from '../../proto/replication.js';
import type { SiteControl } from './site_control.js';
import type { World } from './world.js';

/** Blocks are compared by checksums; those that differ once more, in smaller ones (docs/PROTOCOL.md, Resync). */
const BLOCK = 64 << 10;
const SMALL_BLOCK = 4096;
/** Of a volume, compared wherever nothing is marked. */
const PROBES = 17;
/** Of the records beside their content, and of the checksums that were asked for. */
const SENT_SHARE_MAX = 1.1;
/** Frames, and what is asked for, in a resync of next to nothing. */
const SENT_BYTES_FREE = 256 << 10;
/** On the wire, both ways, where what differs travels compressed. Beside it and its checksums: the handshake; each second, heartbeats and their acknowledgements. */
const WIRE_BYTES_FREE = 16 << 10;
const WIRE_BYTES_PER_SECOND = 2 << 10;
/** For each block that differs: its request, its records, and what is wrapped around them. */
const WIRE_BYTES_PER_BLOCK = 64;
const SETTLED_SECONDS_MAX = 60;

export interface Resync {
  bytesDiffering: number;
  bytesResynced: number;
  /** Through the proxy, both ways, all told. */
  bytesOnWire: number;
  violation: string | null;
}

/**
 * Lets `connect` begin the resync, and looks at what it did; then compares production with what the receiver had when the
 * stream before it had been sent to its end. Nothing is written meanwhile. Null: retention has taken that meanwhile, or it was
 * no point.
 */
export async function measuredResync(world: World, connect: () => Promise<void>): Promise<Resync | null> {
  const { control, proxy } = world;
  const production = [...world.stamped, world.database];
  const names = production.map(({ name }) => name);
  // What is still to be sent of the stream that has ended goes first.
  const queued = await control.agentGroup().then(
    ({ ringUsedBytes, spoolUsedBytes }) => Number(ringUsedBytes + spoolUsedBytes),
    () => 0,
  );
  const passedBefore = proxy.bytesPassed;
  const beginMs = performance.now();
  await connect();
  const { volumes } = await control.settled(SETTLED_SECONDS_MAX);
  const seconds = (performance.now() - beginMs) / 1000;
  const bytesOnWire = proxy.bytesPassed - passedBefore;
  const sum = (of: (volume: (typeof volumes)[number]) => bigint): number =>
    volumes.reduce((total, volume) => total + Number(of(volume)), 0);
  const before = await beforeResync(control, names);
  if (before === null) return null;
  let bytesDiffering = 0;
  let bytesPacked = 0;
  let blocksDiffering = 0;
  for (const [index, { backing }] of production.entries()) {
    const now = await readFile(backing);
    const differing = differingBlocks(now, before[index] as Buffer, SMALL_BLOCK);
    bytesDiffering += SMALL_BLOCK * differing.length;
    bytesPacked += await bytesAsPieces(backing, differing);
    blocksDiffering += differingBlocks(now, before[index] as Buffer, BLOCK).length;
  }
  const bytesResynced = sum((volume) => volume.resyncDifferingBytes);
  const blocks =
    Math.ceil(sum((volume) => volume.resyncComparedBytes) / BLOCK) +
    PROBES * volumes.length +
    blocksDiffering * (BLOCK / SMALL_BLOCK);
  const violations: string[] = [];
  if (bytesResynced > SENT_SHARE_MAX * bytesDiffering + SENT_BYTES_FREE)
    violations.push(`${bytesResynced} bytes were resynced, ${bytesDiffering} differed`);
  const wireMax =
    SENT_SHARE_MAX * bytesPacked +
    HASH_BYTES * blocks +
    queued +
    WIRE_BYTES_FREE +
    WIRE_BYTES_PER_SECOND * seconds +
    WIRE_BYTES_PER_BLOCK * blocksDiffering;
  if (bytesOnWire > wireMax)
    violations.push(
      `${bytesOnWire} bytes went over the wire; ${bytesDiffering} differed (${bytesPacked} compressed), ${blocks} checksums were asked for, ` +
        `${queued} bytes were waiting`,
    );
  return {
    ...{ bytesDiffering, bytesResynced, bytesOnWire },
    violation: violations.length === 0 ? null : violations.join('; '),
  };
}

/** The volumes at the last point before the generation that was compared. */
async function beforeResync(control: SiteControl, names: readonly string[]): Promise<Buffer[] | null> {
  const { generation } = await control.receiverGroup();
  const points = (await control.timeline()).filter(
    (span) => span.grade === 'ordered' && span.generation < generation && span.lastLsn >= span.firstLsn,
  );
  const last = points.reduce((high, { lastLsn }) => (lastLsn > high ? lastLsn : high), 0n);
  if (last === 0n) return null;
  return control.recovered(names, `lsn:${last}`).catch((thrown: unknown) => {
    if (thrown instanceof AfterimageError && thrown.code === 'POINT_EXPIRED') return null;
    throw thrown;
  });
}

/** Where `a` and `b` hold something else, in blocks of `bytes`. */
function differingBlocks(a: Buffer, b: Buffer, bytes: number): number[] {
  const blocks: number[] = [];
  for (let at = 0; at < a.length; at += bytes)
    if (a.compare(b, at, at + bytes, at, at + bytes) !== 0) blocks.push(at);
  return blocks;
}

/** What the small blocks at these offsets come to, each compressed by itself. */
async function bytesAsPieces(path: string, offsets: readonly number[]): Promise<number> {
  const device = await openFileDevice({ path, cache: 'buffered', readOnly: true, exclusive: false });
  try {
    let bytes = 0;
    for (const offset of offsets)
      bytes += (await device.readPiece(BigInt(offset), Buffer.alloc(SMALL_BLOCK))).bytes;
    return bytes;
  } finally {
    await device.close();
  }
}
