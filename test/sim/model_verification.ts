/**
 * A verification as agent/verification.ts does it, one step at a time: what it reads and asks, and what it then has
 * recorded. Differing blocks are told one by one, since what was found must be graded from then on.
 */
import type { VerifyQuestion } from '../../agent/verify_exchange.js';
import type { SessionLimits } from '../../agent/session_limits.js';
import type { VolumeInfo } from '../../proto/replication.js';
import { BLOCK_BYTES } from './model_host.js';
import { contentHashes } from './model_store.js';

/** What it waits for. */
export type VerifyStep =
  /** Content of the blocks, and the LSN at which a replica holds just that; 0n: nothing is captured. */
  | { read: { volume: number; block: number; count: number } }
  | { ask: VerifyQuestion }
  /** Journal the block as it is. */
  | { repair: { volume: number; block: number } };
export interface VerifyAnswer {
  /** Of a read. */
  content?: number[];
  /** Of a read or a repair. */
  lsn?: bigint;
  /** Of a question; code "": it was answered. */
  code?: string;
  hashes?: Buffer;
}
export interface FoundBlock {
  volume: number;
  block: number;
}

type Steps<T> = Generator<VerifyStep, T, VerifyAnswer>;
class Unavailable extends Error {}

export class ModelVerification {
  #id = 0;

  constructor(
    private readonly limits: Pick<SessionLimits, 'pieceBytes' | 'blockBytes' | 'fineBlockBytes'>,
    private readonly repair: boolean,
    /** Blocks that differed, as soon as the receiver has said that it knows. */
    private readonly recorded: (found: readonly FoundBlock[]) => void,
  ) {}

  /** Whether all volumes were compared. */
  *run(volumes: readonly VolumeInfo[]): Steps<boolean> {
    for (const { number, size } of volumes) {
      if (!(yield* this.#volume(number, Number(size) / BLOCK_BYTES))) return false;
    }
    return true;
  }

  *#volume(volume: number, blocks: number): Steps<boolean> {
    const found: FoundBlock[] = [];
    const reached = { beginLsn: 0n, endLsn: 0n };
    let isWhole = false;
    try {
      const { pieceBytes, blockBytes, fineBlockBytes } = this.limits;
      const piece = pieceBytes / BLOCK_BYTES;
      for (let block = 0; block < blocks; block += piece) {
        const count = Math.min(piece, blocks - block);
        for (const coarse of yield* this.#differing(volume, block, count, blockBytes, reached)) {
          const length = Math.min(blockBytes / BLOCK_BYTES, blocks - coarse);
          for (const fine of yield* this.#differing(volume, coarse, length, fineBlockBytes, reached)) {
            found.push({ volume, block: fine });
            if (this.repair) reach(reached, (yield { repair: { volume, block: fine } }).lsn ?? 0n);
          }
        }
      }
      isWhole = true;
    } catch (thrown) {
      if (!(thrown instanceof Unavailable)) throw thrown;
    }
    if (!isWhole && found.length === 0) return false;
    const differing = {
      differingBytes: BigInt(found.length * BLOCK_BYTES),
      differingExtents: BigInt(found.length),
      firstOffset: BigInt((found[0]?.block ?? 0) * BLOCK_BYTES),
    };
    const complete = isWhole && (this.repair || found.length === 0);
    const done = { id: this.#next(), volume, ...reached, ...differing, complete };
    const { code } = yield { ask: { verifyDone: done } };
    if (code !== '') return false;
    this.recorded(found);
    return isWhole;
  }

  /** The first block of each stretch of `blockBytes` that differs. */
  *#differing(
    volume: number,
    block: number,
    count: number,
    blockBytes: number,
    reached: { beginLsn: bigint; endLsn: bigint },
  ): Steps<number[]> {
    const { content = [], lsn = 0n } = yield { read: { volume, block, count } };
    reach(reached, lsn);
    const range = { volume, lsn, offset: BigInt(block * BLOCK_BYTES), length: count * BLOCK_BYTES };
    const request = { id: this.#next(), ...range, blockBytes };
    const { code, hashes = Buffer.alloc(0) } = yield { ask: { verifyRequest: request } };
    if (code !== '') throw new Unavailable();
    const own = contentHashes(content, blockBytes);
    const differing: number[] = [];
    for (let index = 0; index * 32 < own.length; index += 1) {
      const at = [index * 32, index * 32 + 32] as const;
      if (!own.subarray(...at).equals(hashes.subarray(...at)))
        differing.push(block + (index * blockBytes) / BLOCK_BYTES);
    }
    return differing;
  }

  #next(): number {
    this.#id += 1;
    return this.#id;
  }
}

function reach(reached: { beginLsn: bigint; endLsn: bigint }, lsn: bigint): void {
  if (lsn === 0n) throw new Unavailable();
  if (reached.endLsn === 0n) reached.beginLsn = lsn;
  if (lsn > reached.endLsn) reached.endLsn = lsn;
}
