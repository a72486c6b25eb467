/**
 * Carries sealed frames from the capture group to the receiver: never more of them than the window allows, and each
 * pool buffer given back as soon as the transport has its bytes. Not pulling is the backpressure; the ring, not this
 * process's heap, holds what the receiver is not ready for.
 *
 *   durable ≤ shipped ≤ captured             durable is what the receiver acknowledged, shipped the last LSN sent
 */
import type { CapturedEnd, CapturedFrame, CaptureGroup } from '../native/index.js';
import type { Clock } from './clock.js';
import type { LagHistogram } from './lag.js';
import type { LinkStream } from './link.js';

/** Handed to the transport and not yet taken by it. Measured: stopping at `write() === false` loses a third. */
export const OUTSTANDING_BYTES_MAX = 8 << 20;
/** Sent and not yet durable at the receiver. */
export const UNACKNOWLEDGED_BYTES_MAX = 32 << 20;

/** What the shipper needs of native/capture/capture_group.h. */
export type FrameSource = Pick<CaptureGroup, 'next' | 'startShipping' | 'stopShipping'>;

interface SentFrame {
  lastLsn: bigint;
  firstTimeNs: bigint;
  bytes: number;
}

export class Shipper {
  private stream: LinkStream | null = null;
  private nextLsn = 0n;
  private outstandingBytes = 0;
  private unacknowledgedBytes = 0;
  /** In order of LSN; bounded by UNACKNOWLEDGED_BYTES_MAX. */
  private readonly unacknowledged: SentFrame[] = [];
  private isStopped = false;
  private wake: () => void = () => undefined;
  private totalBytes = 0n;

  /** `onEnd` hears that a generation ended after all of its frames were taken. */
  constructor(
    private readonly source: FrameSource,
    private readonly clock: Clock,
    private readonly lag: LagHistogram,
    private readonly onEnd: (end: CapturedEnd) => void,
  ) {}

  /** Last LSN sent on the present stream, or the LSN it started after. */
  get shippedLsn(): bigint {
    return this.nextLsn === 0n ? 0n : this.nextLsn - 1n;
  }
  /** Frame bytes sent since the start, repetitions included. */
  get shippedBytes(): bigint {
    return this.totalBytes;
  }

  /** Pulls and sends until stop(), or until the group is closed. One call. */
  async run(): Promise<void> {
    for (;;) {
      while (!this.mayPull()) {
        if (this.isStopped) return;
        await new Promise<void>((resolve) => (this.wake = resolve));
      }
      const delivery = await this.source.next();
      if (delivery === null) return;
      if (delivery.kind === 'end') this.onEnd(delivery);
      else this.ship(delivery);
    }
  }

  /** Sends everything after `durableLsn` on `stream`; `link` names the receiver's last frame (replication.proto). */
  attach(stream: LinkStream, durableLsn: bigint, link: number): void {
    this.detach();
    this.source.startShipping(durableLsn, link);
    this.nextLsn = durableLsn + 1n;
    this.stream = stream;
    this.wake();
  }

  /** The stream is gone, or another generation is about to begin: nothing more is sent until attach(). */
  detach(): void {
    if (this.stream === null) return;
    this.stream = null;
    this.source.stopShipping();
    this.unacknowledged.length = 0;
    this.unacknowledgedBytes = 0;
  }

  /** The receiver has everything up to `durableLsn` on stable storage. */
  acknowledge(durableLsn: bigint): void {
    const nowNs = this.clock.nowNs();
    let count = 0;
    for (const frame of this.unacknowledged) {
      if (frame.lastLsn > durableLsn) break;
      this.lag.record(nowNs - frame.firstTimeNs);
      this.unacknowledgedBytes -= frame.bytes;
      count += 1;
    }
    this.unacknowledged.splice(0, count);
    if (count > 0) this.wake();
  }

  /** Ends run(), unless it waits for the group's next delivery: closing the group ends that. */
  stop(): void {
    this.detach();
    this.isStopped = true;
    this.wake();
  }

  private mayPull(): boolean {
    return (
      this.stream !== null &&
      this.outstandingBytes < OUTSTANDING_BYTES_MAX &&
      this.unacknowledgedBytes < UNACKNOWLEDGED_BYTES_MAX
    );
  }

  private ship(frame: CapturedFrame): void {
    const { stream } = this;
    if (stream === null) {
      frame.release(); // the stream went while the frame was on its way here: it is made again from the ring
      return;
    }
    if (frame.firstLsn !== this.nextLsn) {
      // Made before the last attach(). Sending it would look like a gap; a new session starts from what is durable.
      frame.release();
      this.detach();
      stream.close();
      return;
    }
    const bytes = frame.buffer.length - frame.headroom;
    this.nextLsn = frame.lastLsn + 1n;
    this.totalBytes += BigInt(bytes);
    this.outstandingBytes += bytes;
    this.unacknowledgedBytes += bytes;
    this.unacknowledged.push({ lastLsn: frame.lastLsn, firstTimeNs: frame.firstTimeNs, bytes });
    const done = (): void => {
      this.outstandingBytes -= bytes;
      frame.release();
      this.wake();
    };
    // A send that failed is not repeated here: the link reports the loss, and the next session starts over.
    stream.send({ frame: { buffer: frame.buffer, headroom: frame.headroom } }).then(done, done);
  }
}
