/**
 * Carries sealed frames from the capture group to the receiver when the session says so, and gives each pool buffer
 * back as soon as the transport has its bytes. How many may be under way is the session's decision (session.ts): not
 * pulling is the backpressure, and the ring, not this process's heap, holds what the receiver is not ready for.
 */
import type { CapturedEnd, CapturedFrame, CaptureGroup } from '../native/index.js';
import type { AgentMessage } from '../proto/replication.js';
import type { Clock } from './clock.js';
import type { LagHistogram } from './lag.js';

/** What the shipper needs of native/capture/capture_group.h. */
export type FrameSource = Pick<CaptureGroup, 'next' | 'startShipping' | 'stopShipping'>;

/** Where the answers go. */
export interface ShipperListener {
  /** Answers pull(). */
  pulled(delivery: CapturedFrame | CapturedEnd): void;
  /** The transport has taken `bytes`. Not called for what was lost with a connection. */
  sent(bytes: number): void;
  /** The capture group cannot be pulled from. */
  failed(error: unknown): void;
}

interface SentFrame {
  lastLsn: bigint;
  firstTimeNs: bigint;
}

export class Shipper {
  /** Sent and not yet known to be durable, in order of LSN; bounded by the session's window. */
  private readonly unacknowledged: SentFrame[] = [];
  private restart: NodeJS.Immediate | null = null;
  private mustPullAgain = false;
  private lastLsn = 0n;
  private totalBytes = 0n;

  constructor(
    private readonly source: FrameSource,
    private readonly send: (message: AgentMessage) => Promise<void>,
    private readonly clock: Clock,
    private readonly lag: LagHistogram,
    private readonly listener: ShipperListener,
  ) {}

  /** durable ≤ shipped ≤ captured: the last LSN sent, or the one that sending began after. */
  get shippedLsn(): bigint {
    return this.lastLsn;
  }
  /** Frame bytes sent since the start, repetitions included. */
  get shippedBytes(): bigint {
    return this.totalBytes;
  }

  /** Takes the next delivery. One call at a time; nothing comes any more once the group is closed. */
  pull(): void {
    this.source.next().then(
      (delivery) => {
        if (delivery !== null) this.deliver(delivery);
      },
      (error: unknown) => this.listener.failed(error),
    );
  }

  /**
   * Frames again from after `durableLsn`; `link` names the receiver's last frame (replication.proto, Welcome). A frame
   * of the old framing may already be on its way here: it is thrown away, and the pull that it answered repeated.
   */
  startShipping(durableLsn: bigint, link: number): void {
    this.stopShipping();
    this.lastLsn = durableLsn;
    // After an immediate nothing of the old framing can be in the microtask queue.
    this.restart = setImmediate(() => {
      this.restart = null;
      this.source.startShipping(durableLsn, link);
      if (!this.mustPullAgain) return;
      this.mustPullAgain = false;
      this.pull();
    });
  }

  stopShipping(): void {
    if (this.restart !== null) clearImmediate(this.restart);
    this.restart = null;
    this.unacknowledged.length = 0;
    this.source.stopShipping();
  }

  ship(frame: CapturedFrame): void {
    const bytes = frame.buffer.length - frame.headroom;
    this.lastLsn = frame.lastLsn;
    this.totalBytes += BigInt(bytes);
    this.unacknowledged.push({ lastLsn: frame.lastLsn, firstTimeNs: frame.firstTimeNs });
    this.send({ frame: { buffer: frame.buffer, headroom: frame.headroom } }).then(
      () => {
        frame.release();
        this.listener.sent(bytes);
      },
      // The link reports the loss; the next session sends it again from the ring.
      () => frame.release(),
    );
  }

  /** The receiver has everything up to `durableLsn` on stable storage. */
  acknowledge(durableLsn: bigint): void {
    const nowNs = this.clock.nowNs();
    let count = 0;
    for (const frame of this.unacknowledged) {
      if (frame.lastLsn > durableLsn) break;
      this.lag.record(nowNs - frame.firstTimeNs);
      count += 1;
    }
    this.unacknowledged.splice(0, count);
  }

  private deliver(delivery: CapturedFrame | CapturedEnd): void {
    if (delivery.kind === 'frame' && this.restart !== null) {
      delivery.release();
      this.mustPullAgain = true;
    } else {
      this.listener.pulled(delivery);
    }
  }
}
