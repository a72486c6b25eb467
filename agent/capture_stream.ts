/**
 * What the session knows of the stream in the member's capture group: which generation it is, whether it has ended,
 * and how far it was used. The session follows the native group, which ends a stream on its own.
 */
import { strict as assert } from 'node:assert';
import type { GenerationNumbers } from './session_events.js';

export type CaptureStream =
  /** No stream, and none whose end is still to be pulled: a generation may begin. */
  | { state: 'none' }
  | { state: 'live'; generation: bigint }
  /** Its end was pulled; what is not yet durable is still in the ring and can be shipped again. */
  | { state: 'ended'; generation: bigint; lastLsn: bigint; reason: string; timeNs: bigint }
  /** Given up: it is pulled to its end and thrown away. */
  | { state: 'abandoned'; generation: bigint; reason: string };

export class Capture {
  stream: CaptureStream = { state: 'none' };
  #usedLsnMax: bigint;

  constructor(usedLsnMax: bigint) {
    this.#usedLsnMax = usedLsnMax;
  }

  /** No LSN above it was ever used. While a stream is live nobody here knows better than its ceiling. */
  get usedLsnMax(): bigint {
    return this.#usedLsnMax;
  }

  begin(numbers: GenerationNumbers): void {
    assert(this.stream.state === 'none', `a generation began while one was ${this.stream.state}`);
    this.stream = { state: 'live', generation: numbers.generation };
    this.#usedLsnMax = numbers.lsnCeiling;
  }
  raiseCeiling(lsn: bigint): void {
    if (this.stream.state === 'live') this.#usedLsnMax = lsn;
  }
  abandon(reason: string): void {
    assert(this.stream.state === 'live', 'only a live stream can be abandoned');
    this.stream = { state: 'abandoned', generation: this.stream.generation, reason };
  }
  /** The end was pulled. The numbers between its last LSN and the ceiling were never given. */
  end(generation: bigint, lastLsn: bigint, reason: string, timeNs: bigint): void {
    if (this.stream.state === 'live' && this.stream.generation === generation) {
      this.stream = { state: 'ended', generation, lastLsn, reason, timeNs };
      this.#usedLsnMax = lastLsn;
    } else if (this.stream.state === 'abandoned' && this.stream.generation === generation) {
      this.stream = { state: 'none' };
      this.#usedLsnMax = lastLsn;
    }
    // Else it is the end of a stream that was shipped again after its end: known already.
  }
  /** What an ended stream left in the ring is durable, or of no use to anybody. */
  forget(): void {
    if (this.stream.state === 'ended') this.stream = { state: 'none' };
  }
}
