/**
 * Hashes of a volume's content for a resync, block by block: HMAC-SHA-256 with the session's key, so that nobody who
 * can write to a volume can make two blocks look equal. Computed off the main thread.
 */
import { webcrypto } from 'node:crypto';
import type { BlockDevice } from '../native/index.js';
import { toAfterimageError } from '../proto/errors.js';
import type { HeldDevice } from './points.js';

export const HASH_BYTES = 32;

export interface HashRange {
  offset: bigint;
  length: number;
  blockBytes: number;
}

type Key = Awaited<ReturnType<typeof webcrypto.subtle.importKey>>;

export class BlockHashes {
  /** One opened state per volume: a resync reads it from end to end. */
  private readonly open = new Map<number, HeldDevice | null>();
  private key: Promise<Key> | null = null;

  constructor(private readonly hashKey: Buffer) {}

  /**
   * HASH_BYTES a block, the last block may be short. What cannot be read, or not even opened, gets zeroes, which equal
   * no hash: the agent sends it again. Errors: those of opening the point that are not about damage.
   */
  async hash(volume: number, open: () => Promise<HeldDevice>, range: HashRange): Promise<Buffer> {
    let held = this.open.get(volume);
    if (held === undefined) {
      held = await openUndamaged(open);
      this.open.set(volume, held);
    }
    if (held === null) return Buffer.alloc(Math.ceil(range.length / range.blockBytes) * HASH_BYTES);
    return this.hashesOf(held.device, range);
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

  private async hashesOf(device: BlockDevice, range: HashRange): Promise<Buffer> {
    const count = Math.ceil(range.length / range.blockBytes);
    const hashes = Buffer.alloc(count * HASH_BYTES);
    const content = Buffer.allocUnsafe(range.length);
    const isWhole = await isReadable(device, range.offset, content);
    for (let index = 0; index < count; index += 1) {
      const start = index * range.blockBytes;
      const block = content.subarray(start, start + range.blockBytes);
      if (isWhole || (await isReadable(device, range.offset + BigInt(start), block))) {
        hashes.set(await this.sign(block), index * HASH_BYTES);
      }
    }
    return hashes;
  }

  /** Closes the state of a volume whose resync has ended. */
  async release(volume: number): Promise<void> {
    const held = this.open.get(volume);
    this.open.delete(volume);
    await held?.device.close();
    held?.release();
  }

  async close(): Promise<void> {
    for (const volume of [...this.open.keys()]) await this.release(volume);
  }

  private async sign(block: Buffer): Promise<Uint8Array> {
    this.key ??= webcrypto.subtle.importKey('raw', this.hashKey, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
    ]);
    return new Uint8Array(await webcrypto.subtle.sign('HMAC', await this.key, block));
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

async function isReadable(device: BlockDevice, offset: bigint, into: Buffer): Promise<boolean> {
  try {
    await device.read(offset, into);
    return true;
  } catch (thrown) {
    if (toAfterimageError(thrown).code === 'IO_ERROR') return false;
    throw thrown;
  }
}
