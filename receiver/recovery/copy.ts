/** Copies one volume at a point to a target, and proves that the target holds it. */
import { createHash } from 'node:crypto';
import type { BlockDevice, CopyResult } from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import type { Target } from './target.js';
import { removeProgress, writeProgress } from './progress_file.js';

export interface CopyParts {
  copyRange: (
    source: BlockDevice,
    target: BlockDevice,
    offset: bigint,
    length: number,
    skipZero: boolean,
  ) => Promise<CopyResult>;
}
export interface CopyStep {
  bytesDone: bigint;
  bytesWritten: bigint;
}

const MIB = 1024 * 1024;
const PIECE_BYTES = 4 * MIB;
/** After so much the target is flushed and the progress recorded: what an interruption costs at most. */
const RECORD_BYTES = BigInt(256 * MIB);
/** Hashed on the main thread in less than a millisecond or two. */
const VERIFY_BYTES = MIB;

/**
 * Copies from where the target's progress stands, a step a piece, and flushes at the end. Ended early, by return or
 * throw, it records how far it came. Errors: INTERRUPTED (aborted), IO_ERROR.
 */
export async function* copyVolume(
  { copyRange }: CopyParts,
  source: BlockDevice,
  target: Target,
  signal: AbortSignal,
): AsyncGenerator<CopyStep, void> {
  const { device, progress } = target;
  let bytesDone = progress.offset;
  let bytesWritten = 0n;
  try {
    while (bytesDone < progress.size) {
      assertWanted(signal, target);
      const length = pieceAt(bytesDone, progress.size, PIECE_BYTES);
      // Zeroes may be left out only where nothing else can be.
      const copied = await copyRange(source, device, bytesDone, length, progress.isSparse);
      bytesDone += BigInt(length);
      bytesWritten += copied.bytesWritten;
      if (bytesDone - progress.offset >= RECORD_BYTES) await record(target, bytesDone);
      yield { bytesDone, bytesWritten };
    }
  } finally {
    await record(target, bytesDone);
  }
}

/**
 * Reads source and target, a step a piece; returns the SHA-256 of both, hex. Errors: VERIFY_FAILED, after which there is
 * nothing to go on with; INTERRUPTED, IO_ERROR.
 */
export async function* verifyVolume(
  source: BlockDevice,
  { path, device, progress, progressFile }: Target,
  signal: AbortSignal,
): AsyncGenerator<bigint, string> {
  const hash = createHash('sha256');
  const wanted = Buffer.allocUnsafe(VERIFY_BYTES);
  const found = Buffer.allocUnsafe(VERIFY_BYTES);
  let offset = 0n;
  while (offset < progress.size) {
    assertWanted(signal, { path });
    const length = pieceAt(offset, progress.size, VERIFY_BYTES);
    const [left, right] = [wanted.subarray(0, length), found.subarray(0, length)];
    await Promise.all([source.read(offset, left), device.read(offset, right)]);
    if (!left.equals(right)) {
      // What is in the target is worth nothing: to go on from there would fail for ever.
      await removeProgress(progressFile);
      throw new AfterimageError('VERIFY_FAILED', `${path} differs within ${length} bytes from ${offset}`);
    }
    hash.update(right);
    offset += BigInt(length);
    yield offset;
  }
  return hash.digest('hex');
}

async function record(target: Target, offset: bigint): Promise<void> {
  await target.device.flush();
  target.progress.offset = offset;
  await writeProgress(target.progressFile, target.progress);
}

function pieceAt(offset: bigint, size: bigint, bytes: number): number {
  const left = size - offset;
  return left < BigInt(bytes) ? Number(left) : bytes;
}

function assertWanted(signal: AbortSignal, { path }: Pick<Target, 'path'>): void {
  if (signal.aborted) throw new AfterimageError('INTERRUPTED', `the recovery to ${path} was interrupted`);
}
