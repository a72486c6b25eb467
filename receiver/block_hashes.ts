/**
 * Hashes of a volume's content for a resync, block by block: HMAC-SHA-256 with the session's key, so that nobody who
 * can write to a volume can make two blocks look equal. Computed off the main thread.
 */
import { webcrypto } from 'node:crypto';
import type { BlockDevice, PointOptions } from '../native/index.js';
import { toAfterimageError } from '../proto/errors.js';

export const HASH_BYTES = 32;

export interface HashRange {
  offset: bigint;
  length: number;
  blockBytes: number;
}

type Key = Awaited<ReturnType<typeof webcrypto.subtle.importKey>>;

export class BlockHashes {
  /** One opened state per volume: a resync reads it from end to end. */
  private readonly open = new Map<number, BlockDevice | null>();
  private key: Promise<Key> | null = null;

  constructor(
    private readonly hashKey: Buffer,
    private readonly openPoint: (options: PointOptions) => Promise<BlockDevice>,
  ) {}

  /**
   * HASH_BYTES a block, the last block may be short. What cannot be read, or not even opened, gets zeroes, which equal
   * no hash: the agent sends it again. Errors: those of opening the point that are not about damage.
   */
  async hash(volume: number, options: () => PointOptions, range: HashRange): Promise<Buffer> {
    let device = this.open.get(volume);
    if (device === undefined) {
      device = await this.openUndamaged(options());
      this.open.set(volume, device);
    }
    const count = Math.ceil(range.length / range.blockBytes);
    const hashes = Buffer.alloc(count * HASH_BYTES);
    if (device === null) return hashes;
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
    const device = this.open.get(volume);
    this.open.delete(volume);
    await device?.close();
  }

  async close(): Promise<void> {
    for (const volume of [...this.open.keys()]) await this.release(volume);
  }

  private async openUndamaged(options: PointOptions): Promise<BlockDevice | null> {
    try {
      return await this.openPoint(options);
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      if (error.code === 'SEGMENT_CORRUPT' || error.code === 'POINT_UNKNOWN') return null;
      throw error;
    }
  }

  private async sign(block: Buffer): Promise<Uint8Array> {
    this.key ??= webcrypto.subtle.importKey('raw', this.hashKey, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
    ]);
    return new Uint8Array(await webcrypto.subtle.sign('HMAC', await this.key, block));
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
