/**
 * Carries sealed frames from the capture group to the receiver when the session says so, and gives each pool buffer
 * back as soon as the transport has its bytes. How many may be under way is the session's decision (session.ts): not
 * pulling is the backpressure, and the ring, not this process's heap, holds what the receiver is not ready for.
 */
import type { CapturedDelivery, CapturedEnd, CapturedFrame, CaptureGroup } from '../native/index.js';
import type { AgentMessage } from '../proto/replication.js';
import type { Clock } from './clock.js';
import type { LagHistogram } from './lag.js';

/** What the shipper needs of native/capture/capture_group.h. */
export type FrameSource = Pick<
  CaptureGroup,
  'next' | 'startShipping' | 'stopShipping' | 'abandonStream' | 'release' | 'stats'
>;

/** Where the answers go. */
export interface ShipperListener {
  /** Answers pull(). */
  pulled(delivery: CapturedDelivery): void;
  /** The transport has taken `bytes`. Not called for what was lost with a connection. */
  sent(bytes: number): void;
  /** The capture group contradicts the session: a defect. */
  failed(error: unknown): void;
}

interface SentFrame {
  lastLsn: bigint;
  firstTimeNs: bigint;
}

export class Shipper {
  /** Sent and not yet known to be durable, in order of LSN; bounded by the session's window. */
  private readonly unacknowledged: SentFrame[] = [];
  /** The session waits for the answer to its pull. */
  private isWanted = false;
  /** The capture group owes a delivery. */
  private isOwed = false;
  private restart: NodeJS.Immediate | null = null;
  /** The end of a stream that was given up, for the next pull. */
  private abandoned: CapturedEnd | null = null;
  /** What framing began after, or the last LSN taken since: the group lets nothing beyond it be released. */
  private takenLsn = 0n;
  private releasableLsn = 0n;
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
    this.isWanted = true;
    this.proceed();
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
      try {
        this.source.startShipping(durableLsn, link);
        this.takenLsn = durableLsn;
        if (this.releasableLsn <= durableLsn) this.source.release(this.releasableLsn);
        this.proceed();
      } catch (thrown) {
        this.listener.failed(thrown);
      }
    });
  }

  stopShipping(): void {
    if (this.restart !== null) clearImmediate(this.restart);
    this.restart = null;
    this.unacknowledged.length = 0;
    this.source.stopShipping();
  }

  /** Ends the stream and forgets what the ring holds of it; its end answers the next pull, or the one that waits. */
  abandon(reason: string): void {
    this.forget();
    const { generation, capturedLsn } = this.source.stats();
    this.abandoned = { kind: 'end', generation, lastLsn: capturedLsn, reason };
    this.proceed();
  }

  /** Forgets what the ring holds of a stream, and its end, which was pulled. */
  forget(): void {
    this.stopShipping();
    this.source.abandonStream();
    this.takenLsn = this.releasableLsn = this.source.stats().capturedLsn;
  }

  ship(frame: CapturedFrame): void {
    const bytes = frame.buffer.length - frame.headroom;
    this.lastLsn = frame.lastLsn;
    this.totalBytes += BigInt(bytes);
    this.unacknowledged.push({ lastLsn: frame.lastLsn, firstTimeNs: frame.firstTimeNs });
    this.send({ frame: { buffer: frame.buffer, headroom: frame.headroom } })
      .then(
        () => {
          frame.release();
          this.listener.sent(bytes);
        },
        // The link reports the loss; the next session sends it again from the ring.
        () => frame.release(),
      )
      .catch((error: unknown) => this.listener.failed(error));
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

  /**
   * The ring may forget everything up to `lsn`. The receiver may turn out to have more than it had acknowledged, and then
   * it does once framing begins there.
   */
  release(lsn: bigint): void {
    this.releasableLsn = lsn;
    if (lsn <= this.takenLsn) this.source.release(lsn);
  }

  /** Answers the session's pull, or asks the group to. */
  private proceed(): void {
    if (!this.isWanted) return;
    if (this.abandoned !== null) {
      const end = this.abandoned;
      this.abandoned = null;
      this.answer(end);
    } else if (!this.isOwed && this.restart === null) {
      this.isOwed = true;
      this.source
        .next()
        .then((delivery) => {
          this.isOwed = false;
          if (delivery !== null) this.deliver(delivery);
        })
        .catch((error: unknown) => this.listener.failed(error));
    }
  }

  private deliver(delivery: CapturedDelivery): void {
    if (this.restart === null && this.isWanted) return this.answer(delivery);
    // Of a framing, or a stream, that is no more; an end or a loss comes again in the place where it belongs.
    if (delivery.kind === 'frame') delivery.release();
    this.proceed();
  }

  private answer(delivery: CapturedDelivery): void {
    this.isWanted = false;
    if (delivery.kind === 'frame') this.takenLsn = delivery.lastLsn;
    this.listener.pulled(delivery);
  }
}
