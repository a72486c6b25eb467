/**
 * Hashes of a volume's content for a resync, block by block: HMAC-SHA-256 with the session's key, so that nobody who
 * can write to a volume can make two blocks look equal. Computed off the main thread.
 */
import type { BlockDevice } from '../native/index.js';
import { toAfterimageError } from '../proto/errors.js';
import { HASH_BYTES } from '../proto/replication.js';
import type { HeldDevice } from './points.js';

export interface HashRange {
  offset: bigint;
  length: number;
  blockBytes: number;
}

export class BlockHashes {
  /** One opened state per volume: a resync reads it from end to end. */
  private readonly open = new Map<number, Promise<HeldDevice | null>>();

  constructor(private readonly hashKey: Buffer) {}

  /**
   * HASH_BYTES a block, the last block may be short. What cannot be read, or not even opened, gets zeroes, which equal
   * no hash: the agent sends it again. Errors: those of opening the point that are not about damage.
   */
  async hash(volume: number, open: () => Promise<HeldDevice>, range: HashRange): Promise<Buffer> {
    const held = await this.opened(volume, open);
    if (held === null) return Buffer.alloc(Math.ceil(range.length / range.blockBytes) * HASH_BYTES);
    return this.hashesOf(held.device, range);
  }

  private opened(volume: number, open: () => Promise<HeldDevice>): Promise<HeldDevice | null> {
    const before = this.open.get(volume);
    if (before !== undefined) return before;
    const opening = openUndamaged(open);
    this.open.set(volume, opening);
    opening.catch(() => {
      if (this.open.get(volume) === opening) this.open.delete(volume);
    });
    return opening;
  }

  /** Of a state that is opened for this range alone. Errors: those of opening the point, also about damage. */
  async hashOnce(open: () => Promise<HeldDevice>, range: HashRange): Promise<Buffer> {
    const held = await open();
    try {
      return await this.hashesOf(held.device, range);
    } finally {
      await held.device.close();
      held.release();
    }
  }

  private async hashesOf(device: BlockDevice, { offset, length, blockBytes }: HashRange): Promise<Buffer> {
    const whole = await this.hashesIfReadable(device, offset, length, blockBytes);
    if (whole !== null) return whole;
    const hashes = Buffer.alloc(Math.ceil(length / blockBytes) * HASH_BYTES);
    for (let start = 0, at = 0; start < length; start += blockBytes, at += HASH_BYTES) {
      const bytes = Math.min(blockBytes, length - start);
      const one = await this.hashesIfReadable(device, offset + BigInt(start), bytes, blockBytes);
      if (one !== null) hashes.set(one, at);
    }
    return hashes;
  }

  private async hashesIfReadable(
    device: BlockDevice,
    ...range: [offset: bigint, length: number, blockBytes: number]
  ): Promise<Buffer | null> {
    try {
      return await device.hashBlocks(...range, this.hashKey);
    } catch (thrown) {
      if (toAfterimageError(thrown).code === 'IO_ERROR') return null;
      throw thrown;
    }
  }

  /** Closes the state of a volume whose resync has ended. */
  async release(volume: number): Promise<void> {
    const opening = this.open.get(volume);
    this.open.delete(volume);
    const held = await opening?.catch(() => null);
    await held?.device.close();
    held?.release();
  }

  async close(): Promise<void> {
    for (const volume of [...this.open.keys()]) await this.release(volume);
  }
}

async function openUndamaged(open: () => Promise<HeldDevice>): Promise<HeldDevice | null> {
  try {
    return await open();
  } catch (thrown) {
    const error = toAfterimageError(thrown);
    if (['SEGMENT_CORRUPT', 'POINT_UNKNOWN', 'POINT_EXPIRED'].includes(error.code)) return null;
    throw error;
  }
}
