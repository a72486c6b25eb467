/**
 * A member's stream on its way from the ring to the receiver: which frames are pulled and sent, what the ring may
 * forget, and the stream's end. Pure; a part of the session machine.
 */
import { strict as assert } from 'node:assert';
import type { Ack } from '../proto/replication.js';
import { higher, watermarksAt } from '../proto/watermarks.js';
import type { Watermarks } from '../proto/watermarks.js';
import { Capture } from './capture_stream.js';
import type { CaptureStream } from './capture_stream.js';
import type { AgentAction, FrameSummary, GenerationNumbers } from './session_events.js';
import type { SessionLimits } from './session_limits.js';
import { ShipWindow } from './ship_window.js';

export class Shipment {
  /** applied ≤ durable ≤ received ≤ shipped ≤ captured, asserted after every event. */
  marks: Watermarks = watermarksAt(0n);
  readonly window: ShipWindow;
  #capture = new Capture(0n);
  #isShipping = false;
  #isPulling = false;
  /** Of the generation, on any connection. */
  #shippedLsnMax = 0n;

  constructor(
    limits: SessionLimits,
    private readonly emit: (action: AgentAction) => void,
  ) {
    this.window = new ShipWindow(limits);
  }

  get stream(): CaptureStream {
    return this.#capture.stream;
  }
  /** 0n: none. */
  get generation(): bigint {
    return this.stream.state === 'none' ? 0n : this.stream.generation;
  }
  get usedLsnMax(): bigint {
    return this.#capture.usedLsnMax;
  }
  get shippedLsnMax(): bigint {
    return this.#shippedLsnMax;
  }
  /** All of a stream that has ended was sent on this connection. */
  get isDrained(): boolean {
    return this.#isShipping && this.stream.state === 'ended' && this.marks.shipped === this.stream.lastLsn;
  }

  /** A process starts. `resume`: the stream that its capture group begins with. */
  open(durableLsn: bigint, usedLsnMax: bigint, resume: GenerationNumbers | null): void {
    this.#capture = new Capture(usedLsnMax);
    this.marks = watermarksAt(durableLsn);
    this.#shippedLsnMax = durableLsn;
    if (resume === null) return;
    this.#capture.begin(resume);
    // What a predecessor had captured it may have shipped as well, and the receiver may have it.
    this.marks.captured = higher(durableLsn, resume.firstLsn - 1n);
    this.#shippedLsnMax = this.marks.captured;
  }

  /** A new generation begins in the capture group; what was before is durable. */
  begin(numbers: GenerationNumbers): void {
    this.#forget();
    this.#capture.begin(numbers);
    this.emit({ type: 'beginGeneration', start: numbers });
    this.marks = watermarksAt(numbers.firstLsn - 1n);
    this.#shippedLsnMax = this.marks.shipped;
  }

  /** Frames flow from after the receiver's durable LSN. */
  start(durableLsn: bigint, link: number): void {
    const { captured, durable } = this.marks;
    if (durableLsn > durable) this.emit({ type: 'release', lsn: durableLsn });
    this.marks = { ...watermarksAt(durableLsn), captured: higher(captured, durableLsn) };
    this.#isShipping = true;
    this.emit({ type: 'startShipping', durableLsn, link });
  }

  halt(): void {
    if (this.#isShipping) this.emit({ type: 'stopShipping' });
    this.#isShipping = false;
  }

  /** The stream cannot go on. True when a generation may begin at once, false when its end must be pulled first. */
  giveUp(reason: string): boolean {
    this.#forget();
    if (this.stream.state === 'live') {
      this.#capture.abandon(reason);
      this.emit({ type: 'abandonStream', reason });
    }
    return this.stream.state === 'none';
  }

  raiseCeiling(generation: bigint, lsn: bigint): void {
    if (this.stream.state !== 'live' || this.stream.generation !== generation) return;
    this.#capture.raiseCeiling(lsn);
    this.emit({ type: 'raiseCeiling', lsn });
  }

  captured(lsn: bigint): void {
    if (this.stream.state === 'live') this.marks.captured = higher(this.marks.captured, lsn);
  }

  /** True when the frame is sent, false when it is given back. */
  frameReady(frame: FrameSummary): boolean {
    this.#isPulling = false;
    const { marks, stream } = this;
    if (!this.#isShipping || stream.state === 'none' || stream.state === 'abandoned') {
      this.emit({ type: 'dropFrame' });
      return false;
    }
    assert(frame.generation === stream.generation, 'a frame of another generation than the ring is in');
    assert(frame.firstLsn === marks.shipped + 1n, `frame ${frame.firstLsn} does not follow ${marks.shipped}`);
    this.emit({ type: 'sendFrame' });
    this.window.frameWritten(frame.lastLsn, frame.bytes);
    marks.shipped = frame.lastLsn;
    marks.captured = higher(marks.captured, frame.lastLsn);
    this.#shippedLsnMax = higher(this.#shippedLsnMax, frame.lastLsn);
    return true;
  }

  streamEnded(generation: bigint, lastLsn: bigint, reason: string, timeNs: bigint): void {
    this.#isPulling = false;
    const before = this.stream.state;
    this.#capture.end(generation, lastLsn, reason, timeNs);
    const now = this.stream.state;
    if (before === 'live' && now === 'ended') {
      assert(lastLsn >= this.marks.shipped, 'the stream ended before what was shipped of it');
      this.marks.captured = lastLsn;
    } else if (before === 'abandoned' && now === 'none') {
      this.emit({ type: 'release', lsn: lastLsn });
    }
  }

  /** It cannot be pulled to its end: whoever hears of this gives it up. */
  streamLost(): void {
    this.#isPulling = false;
  }

  /** Null, or how the receiver contradicts itself. */
  ack({ durableLsn, receivedLsn }: Ack): string | null {
    const marks = this.marks;
    if (durableLsn < marks.durable || receivedLsn < durableLsn || receivedLsn > marks.shipped) {
      return `acknowledged ${durableLsn} of ${receivedLsn} received, after ${marks.durable} and of ${marks.shipped} sent`;
    }
    marks.received = higher(marks.received, receivedLsn);
    if (durableLsn > marks.durable) {
      marks.durable = durableLsn;
      marks.applied = durableLsn;
      this.window.acked(durableLsn);
      this.emit({ type: 'release', lsn: durableLsn });
    }
    return null;
  }

  /** Pulls where there is something to pull, and room for it. */
  advance(): void {
    if (this.#isPulling) return;
    const wanted = this.#isShipping && !this.isDrained && this.window.hasRoom;
    if (!wanted && this.stream.state !== 'abandoned') return;
    this.#isPulling = true;
    this.emit({ type: 'pull' });
  }

  #forget(): void {
    if (this.stream.state === 'ended') this.emit({ type: 'forgetStream' });
    this.#capture.forget();
  }
}
