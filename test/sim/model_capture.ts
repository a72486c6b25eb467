/**
 * The capture group as native/capture/capture_group.h promises it: sequencer, bounded ring, frames pulled one at a time.
 * It asserts what the native one requires of its caller.
 */
import { strict as assert } from 'node:assert';
import type { FrameHeader } from '../../proto/frame_header.js';
import type { GenerationNumbers } from '../../agent/session_events.js';
import { BLOCK_BYTES } from './model_host.js';
import type { Change, ModelHost } from './model_host.js';
import type { Random } from './random.js';

export interface ModelRecord {
  lsn: bigint;
  changes: Change[];
  bytes: number;
  /** How many changes of the host's history it stands for: the oracle's answer to "what should be there?". */
  historyCount: number;
  host: ModelHost;
}
export interface ModelFrame {
  header: FrameHeader;
  records: ModelRecord[];
  isCorrupt: boolean;
}
export interface ModelEnd {
  generation: bigint;
  lastLsn: bigint;
  reason: string;
}
export type Delivery = { frame: ModelFrame } | { end: ModelEnd };

const RECORD_BYTES = 64;
const FRAME_RECORDS_MAX = 5;

export class ModelCapture {
  #isStreaming = false;
  #numbers: GenerationNumbers | null = null;
  /** The last LSN given, in all generations. */
  #lastLsn = 0n;
  #ring: ModelRecord[] = [];
  #usedBytes = 0;
  #releasedLsn = 0n;
  #endReason: string | null = null;
  #isEndDelivered = true;
  #isShipping = false;
  #shippedLsn = 0n;
  #link = 0;
  #pull: ((delivery: Delivery) => void) | null = null;
  /** The highest LSN of this process' groups, over generations. */
  #usedLsnMax = 0n;

  constructor(
    private readonly host: ModelHost,
    private readonly ringBytes: number,
    private readonly random: Random,
    private readonly onOverflow: (reason: string) => void,
  ) {}

  get isStreaming(): boolean {
    return this.#isStreaming;
  }
  get generation(): bigint {
    return this.#numbers?.generation ?? 0n;
  }
  /** Of a live stream: the receiver has everything up to here. */
  get confirmedLsn(): bigint {
    return this.#releasedLsn;
  }
  get lastLsn(): bigint {
    return this.#lastLsn;
  }
  /** Of the stream that has ended last. */
  get endReason(): string {
    return this.#endReason ?? '';
  }
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Gives the changes one LSN; 0n: the stream is closed. */
  publish(changes: Change[]): bigint {
    const numbers = this.#numbers;
    if (!this.#isStreaming || numbers === null) return 0n;
    const bytes = changes.reduce((sum, { count }) => sum + count * BLOCK_BYTES, RECORD_BYTES);
    const isOver = this.#lastLsn >= numbers.lsnCeiling;
    if (isOver || this.#usedBytes + bytes > this.ringBytes) {
      this.closeStream(isOver ? 'LSN_CEILING' : 'RING_FULL');
      return 0n;
    }
    this.#lastLsn += 1n;
    this.host.lsnGiven(this.#lastLsn);
    const historyCount = this.host.changes.length;
    this.#ring.push({ lsn: this.#lastLsn, changes, bytes, historyCount, host: this.host });
    this.#usedBytes += bytes;
    this.#deliver();
    return this.#lastLsn;
  }

  /** A resync's record: blocks with the content that they have. 0n: the stream is closed. Null: later. */
  republish(volume: number, block: number, contents: number[]): bigint | null {
    if (!this.#isStreaming) return 0n;
    if (this.#usedBytes > this.ringBytes / 2) return null;
    return this.publish(contents.map((value, index) => ({ volume, block: block + index, count: 1, value })));
  }

  beginGeneration(numbers: GenerationNumbers): void {
    assert(
      !this.#isStreaming && this.#isEndDelivered,
      'the end of the stream before must have been delivered',
    );
    assert(numbers.firstLsn > this.#usedLsnMax, 'a generation begins above every LSN used');
    assert(this.#ring.length === 0, 'what was not released would be lost');
    this.#numbers = numbers;
    this.#isStreaming = true;
    this.#endReason = null;
    this.#isEndDelivered = false;
    this.#lastLsn = numbers.firstLsn - 1n;
    this.#releasedLsn = this.#lastLsn;
    this.#isShipping = false;
  }

  closeStream(reason: string): void {
    if (!this.#isStreaming) return;
    this.#isStreaming = false;
    this.#endReason = reason;
    this.#usedLsnMax = this.#lastLsn;
    this.onOverflow(reason);
    this.#deliver();
  }

  raiseCeiling(lsn: bigint): void {
    if (this.#numbers !== null) this.#numbers = { ...this.#numbers, lsnCeiling: lsn };
  }

  startShipping(durableLsn: bigint, link: number): void {
    assert(
      durableLsn >= this.#releasedLsn,
      `after ${durableLsn} is not in the ring any more, ${this.#releasedLsn} is gone`,
    );
    assert(durableLsn <= this.#lastLsn, 'beyond what was captured');
    this.#isShipping = true;
    this.#shippedLsn = durableLsn;
    this.#link = link;
    this.#deliver();
  }
  stopShipping(): void {
    this.#isShipping = false;
  }

  next(answer: (delivery: Delivery) => void): void {
    assert(this.#pull === null, 'one next() at a time');
    this.#pull = answer;
    this.#deliver();
  }

  release(lsn: bigint): void {
    assert(lsn <= this.#lastLsn, 'what was not captured cannot be released');
    if (lsn > this.#releasedLsn) this.#releasedLsn = lsn;
    while (this.#ring[0] !== undefined && this.#ring[0].lsn <= lsn) {
      this.#usedBytes -= this.#ring[0].bytes;
      this.#ring.shift();
    }
  }

  #deliver(): void {
    const numbers = this.#numbers;
    if (this.#pull === null || !this.#isShipping || numbers === null) return;
    const first = this.#ring.findIndex((record) => record.lsn > this.#shippedLsn);
    if (first >= 0) {
      const count = this.random.int(1, FRAME_RECORDS_MAX);
      const records = this.#ring.slice(first, first + count);
      this.#answer({ frame: this.#seal(numbers, records) });
    } else if (this.#endReason !== null && !this.#isEndDelivered) {
      this.#isEndDelivered = true;
      this.#answer({
        end: { generation: numbers.generation, lastLsn: this.#lastLsn, reason: this.#endReason },
      });
    }
  }

  #seal({ epoch, generation }: GenerationNumbers, records: ModelRecord[]): ModelFrame {
    const [firstLsn, lastLsn] = [records[0]?.lsn ?? 0n, records.at(-1)?.lsn ?? 0n];
    const bytes = records.reduce((sum, record) => sum + record.bytes, 160);
    const headerCrc = this.random.int(1, 2 ** 32 - 1);
    const header = { epoch, generation, firstLsn, lastLsn, link: this.#link, headerCrc, bytes };
    this.#link = headerCrc;
    this.#shippedLsn = lastLsn;
    return { header, records, isCorrupt: false };
  }

  #answer(delivery: Delivery): void {
    const answer = this.#pull;
    this.#pull = null;
    answer?.(delivery);
  }
}
