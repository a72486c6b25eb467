/**
 * Reads a volume for its synchronization, a piece at a time, through the captured device, so that what is read and
 * what production writes meanwhile end up in one order at the receiver. Which piece comes next is the session's
 * decision (session.ts).
 */
import type { CapturedVolume, SyncPiece } from '../native/index.js';
import { AfterimageError } from '../proto/errors.js';
import { HASH_BYTES } from '../proto/replication.js';
import { Pace } from '../service/pace.js';
import type { Clock } from './clock.js';
import type { Range } from './session_events.js';

/** Largest record, and so the longest stretch that is republished under one extent lock. */
export const PIECE_BYTES_MAX = 1 << 20;
/** How long a sync stands back when the ring is more than half full: production's records go first. */
const STAND_BACK_MS = 20;

export type SyncVolume = Pick<CapturedVolume, 'readPiece' | 'hashBlocks' | 'republish'>;

/** What the receiver holds in a range: HMAC-SHA-256 of each block of `blockBytes`, the last one perhaps shorter. */
export interface RangeHashes {
  blockBytes: number;
  hashes: Buffer;
  /** 32 bytes, fresh per session. */
  hashKey: Buffer;
}

export class Sync {
  private readonly pace: Pace;

  /**
   * `isRingBusy`: more than half of the ring is in use, or some of the spool. `rateMax`: bytes per second that are read of backings, and so the
   * most that is sent; null: no bound.
   */
  constructor(
    private readonly isRingBusy: () => boolean,
    rateMax: bigint | null,
    private readonly clock: Clock,
    private readonly stopping: AbortSignal,
  ) {
    this.pace = new Pace(rateMax, {
      nowMs: () => clock.monotonicMs(),
      sleep: (ms) => this.standBack(ms),
      signal: stopping,
    });
  }

  /** As much as `into` holds, as it is to travel. Errors: IO_ERROR, INTERRUPTED. */
  async readPiece(volume: SyncVolume, offset: bigint, into: Buffer): Promise<SyncPiece> {
    while (this.isRingBusy()) await this.standBack();
    await this.pace.spent(BigInt(into.length));
    return volume.readPiece(offset, into);
  }

  /**
   * Compares the volume with what the receiver holds and republishes what differs: the records that this makes, with
   * those of production, lead from the receiver's content to the volume's. `isOpen` is false when the stream was closed
   * before all was republished. Errors: IO_ERROR, INTERRUPTED, MESSAGE_INVALID.
   */
  async compare(
    volume: SyncVolume,
    range: Range,
    expected: RangeHashes,
  ): Promise<{ isOpen: boolean; differing: Range[] }> {
    const differing = await this.differing(volume, range, expected);
    for (const { offset, length } of differing) {
      if ((await this.republish(volume, offset, length)) === 0n) return { isOpen: false, differing };
    }
    return { isOpen: true, differing };
  }

  /**
   * The stretches of blocks in which the volume is not what the receiver holds. Errors: IO_ERROR, INTERRUPTED,
   * MESSAGE_INVALID.
   */
  async differing(volume: SyncVolume, range: Range, expected: RangeHashes): Promise<Range[]> {
    await this.pace.spent(BigInt(range.length));
    const { blockBytes, hashKey } = expected;
    return differingBlocks(
      await volume.hashBlocks(range.offset, range.length, blockBytes, hashKey),
      range,
      expected,
    );
  }

  /** Journals the range as it is: the record's LSN, 0n when the stream is closed. Errors: IO_ERROR, INTERRUPTED. */
  async republish(volume: SyncVolume, offset: bigint, length: number): Promise<bigint> {
    await this.pace.spent(BigInt(length));
    for (;;) {
      const lsn = await volume.republish(offset, length);
      if (lsn !== null) return lsn;
      await this.standBack();
    }
  }

  /** Errors: INTERRUPTED. */
  private async standBack(ms = STAND_BACK_MS): Promise<void> {
    try {
      await this.clock.sleep(ms, this.stopping);
    } catch (cause) {
      throw new AfterimageError('INTERRUPTED', 'the agent stops', { cause });
    }
  }
}

/** The stretches of blocks of `range` whose hashes, `own`, are not what the receiver says. Errors: MESSAGE_INVALID. */
export function differingBlocks(
  own: Buffer,
  range: Range,
  { blockBytes, hashes }: Omit<RangeHashes, 'hashKey'>,
): Range[] {
  if (hashes.length !== own.length) {
    throw new AfterimageError(
      'MESSAGE_INVALID',
      `${hashes.length} bytes of hashes for ${own.length / HASH_BYTES} blocks`,
    );
  }
  if (own.equals(hashes)) return [];
  const equal = Array.from({ length: own.length / HASH_BYTES }, (_, index) => {
    const [begin, end] = [index * HASH_BYTES, (index + 1) * HASH_BYTES];
    return own.subarray(begin, end).equals(hashes.subarray(begin, end));
  });
  return [...differingRuns(equal, range, blockBytes)];
}

/** The stretches of unequal blocks, none longer than a record. */
function* differingRuns(equal: readonly boolean[], range: Range, blockBytes: number): Generator<Range> {
  let begin = 0;
  while (begin < equal.length) {
    if (equal[begin] === true) {
      begin += 1;
      continue;
    }
    let end = begin + 1;
    while (end < equal.length && equal[end] === false && (end + 1 - begin) * blockBytes <= PIECE_BYTES_MAX)
      end += 1;
    const first = begin * blockBytes;
    const last = Math.min(end * blockBytes, range.length);
    yield { offset: range.offset + BigInt(first), length: last - first };
    begin = end;
  }
}
