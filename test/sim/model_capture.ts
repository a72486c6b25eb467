/**
 * The capture group as native/capture/capture_group.h promises it: sequencer, bounded ring that overflows into a bounded
 * spool (model_backlog.ts), frames pulled one at a time. It asserts what the native one requires of its caller.
 */
import { strict as assert } from 'node:assert';
import type { FrameHeader } from '../../proto/frame_header.js';
import type { GenerationNumbers } from '../../agent/session_events.js';
import { ModelBacklog } from './model_backlog.js';
import type { BacklogLimits, ModelRing } from './model_backlog.js';
import { BLOCK_BYTES } from './model_host.js';
import type { Change, ModelHost } from './model_host.js';
import { higher } from '../../proto/watermarks.js';
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
/** What was spooled cannot be read: nothing more comes before startShipping, and then only this again. */
export interface ModelLoss {
  code: string;
}
export type Delivery = { frame: ModelFrame } | { end: ModelEnd } | { loss: ModelLoss };

const RECORD_BYTES = 64;
const FRAME_RECORDS_MAX = 5;

export class ModelCapture {
  /** The last LSN given, in all generations. */
  #lastLsn = 0n;
  #isEndDelivered = true;
  #isShipping = false;
  #shippedLsn = 0n;
  #link = 0;
  #pull: ((delivery: Delivery) => void) | null = null;

  private constructor(
    private readonly host: ModelHost,
    private readonly backlog: ModelBacklog,
    private readonly random: Random,
    private readonly onOverflow: (reason: string) => void,
  ) {}

  /** With a ring of its own: what lies in the spool is another one's, and removed. */
  static create(
    host: ModelHost,
    limits: BacklogLimits,
    random: Random,
    onOverflow: (reason: string) => void,
  ): ModelCapture {
    const backlog = ModelBacklog.create(host, limits, random);
    return new ModelCapture(host, backlog, random, onOverflow);
  }

  /** With that of a predecessor, whose stream goes on; null: its spool is not whole. */
  static adopt(
    host: ModelHost,
    ring: ModelRing,
    limits: BacklogLimits,
    random: Random,
    onOverflow: (reason: string) => void,
  ): ModelCapture | null {
    const backlog = ModelBacklog.adopt(host, ring, limits);
    if (backlog === null) return null;
    const capture = new ModelCapture(host, backlog, random, onOverflow);
    capture.#lastLsn = backlog.lastLsn;
    capture.#isEndDelivered = ring.stream.numbers === null;
    return capture;
  }

  get isStreaming(): boolean {
    const { numbers, endReason } = this.#stream;
    return numbers !== null && endReason === null;
  }
  get generation(): bigint {
    return this.#stream.numbers?.generation ?? 0n;
  }
  get lsnCeiling(): bigint {
    return this.#stream.numbers?.lsnCeiling ?? 0n;
  }
  /** Of a live stream: the receiver has everything up to here. */
  get confirmedLsn(): bigint {
    return this.#stream.releasedLsn;
  }
  get lastLsn(): bigint {
    return this.#lastLsn;
  }
  /** Of the stream that has ended last. */
  get endReason(): string {
    return this.#stream.endReason ?? '';
  }
  /** Of the ring. */
  get usedBytes(): number {
    return this.backlog.ringUsedBytes;
  }
  get spooledBytes(): number {
    return this.backlog.spooledBytes;
  }
  /** What can wait leaves the rest to production. */
  get isCrowded(): boolean {
    return this.backlog.isCrowded;
  }

  /** Gives the changes one LSN; 0n: the stream is closed. */
  publish(changes: Change[]): bigint {
    const { numbers } = this.#stream;
    if (!this.isStreaming || numbers === null) return 0n;
    const bytes = changes.reduce((sum, { count }) => sum + count * BLOCK_BYTES, RECORD_BYTES);
    const isOver = this.#lastLsn >= numbers.lsnCeiling;
    if (isOver || !this.backlog.hasRoom(bytes)) {
      this.closeStream(isOver ? 'LSN_CEILING' : (this.backlog.fault ?? 'RING_FULL'));
      return 0n;
    }
    this.#lastLsn += 1n;
    this.host.lsnGiven(this.#lastLsn);
    const historyCount = this.host.changes.length;
    this.backlog.add({ lsn: this.#lastLsn, changes, bytes, historyCount, host: this.host });
    this.#deliver();
    return this.#lastLsn;
  }

  /** A resync's record: blocks with the content that they have. 0n: the stream is closed. Null: later. */
  republish(volume: number, block: number, contents: number[]): bigint | null {
    if (!this.isStreaming) return 0n;
    if (this.isCrowded) return null;
    return this.publish(contents.map((value, index) => ({ volume, block: block + index, count: 1, value })));
  }

  beginGeneration(numbers: GenerationNumbers): void {
    assert(
      !this.isStreaming && this.#isEndDelivered,
      'the end of the stream before must have been delivered',
    );
    assert(numbers.firstLsn > this.#lastLsn, 'a generation begins above every LSN used');
    assert(this.backlog.isEmpty, 'what was not released would be lost');
    this.#lastLsn = numbers.firstLsn - 1n;
    this.backlog.ring.stream = { numbers, releasedLsn: this.#lastLsn, endReason: null };
    this.#isEndDelivered = false;
    this.#isShipping = false;
  }

  /** The inherited stream, which has ended or not: its frames are `epoch`'s from now on. */
  resumeGeneration(epoch: bigint, lsnCeiling: bigint): void {
    const { numbers } = this.#stream;
    assert(numbers !== null, 'a stream was inherited');
    assert(lsnCeiling >= this.#lastLsn, 'what was captured is reserved');
    this.#stream.numbers = { ...numbers, epoch, lsnCeiling: higher(numbers.lsnCeiling, lsnCeiling) };
  }

  closeStream(reason: string): void {
    if (!this.isStreaming) return;
    this.#stream.endReason = reason;
    this.onOverflow(reason);
    this.#deliver();
  }

  /** Forgets the stream, and its end too. */
  abandon(): void {
    this.closeStream('CLOSED');
    this.#isShipping = false;
    this.backlog.forget();
    this.#isEndDelivered = true;
    this.#stream.releasedLsn = this.#lastLsn;
  }
  /** Forgets a stream that was pulled to its end. */
  forget(): void {
    assert(!this.isStreaming && this.#isEndDelivered, 'nobody has heard of the end of what is forgotten');
    this.abandon();
  }
  /** Forgets the stream, of which only the end is left to be pulled. */
  giveUp(reason: string): void {
    this.closeStream(reason);
    this.abandon();
    this.#isEndDelivered = false;
    this.startShipping(this.#lastLsn, 0);
  }

  raiseCeiling(lsn: bigint): void {
    const { numbers } = this.#stream;
    if (numbers !== null) this.#stream.numbers = { ...numbers, lsnCeiling: higher(numbers.lsnCeiling, lsn) };
  }

  startShipping(durableLsn: bigint, link: number): void {
    const { releasedLsn } = this.#stream;
    assert(
      durableLsn >= releasedLsn,
      `after ${durableLsn} is not in the ring any more, ${releasedLsn} is gone`,
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
    if (lsn > this.#stream.releasedLsn) this.#stream.releasedLsn = lsn;
    this.backlog.release(lsn);
  }

  /** What the spooler does when it gets to it; `disk`: null, or why it cannot write. True: something was moved. */
  spool(disk: string | null): boolean {
    return this.backlog.spool(disk);
  }

  /** The process is killed while it copies a record into its place: its successor finds nothing that it could be. */
  leaveVoid(): void {
    this.publish([]);
  }

  get #stream(): ModelRing['stream'] {
    return this.backlog.ring.stream;
  }

  #deliver(): void {
    const { numbers, endReason } = this.#stream;
    if (this.#pull === null || !this.#isShipping || numbers === null) return;
    const count = this.random.int(1, FRAME_RECORDS_MAX);
    const read = this.backlog.readAfter(this.#shippedLsn, count);
    if (read === null) {
      this.#isShipping = false;
      this.#answer({ loss: { code: 'SPOOL_CORRUPT' } });
    } else if (read.length > 0) {
      this.#answer({ frame: this.#seal(numbers, read) });
    } else if (endReason !== null && !this.#isEndDelivered) {
      this.#isEndDelivered = true;
      this.#answer({ end: { generation: numbers.generation, lastLsn: this.#lastLsn, reason: endReason } });
    }
  }

  #seal({ epoch, generation }: GenerationNumbers, records: ModelRecord[]): ModelFrame {
    const [firstLsn, lastLsn] = [records[0]?.lsn ?? 0n, records.at(-1)?.lsn ?? 0n];
    assert(firstLsn === this.#shippedLsn + 1n, `R5: after ${this.#shippedLsn} comes ${firstLsn}`);
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
