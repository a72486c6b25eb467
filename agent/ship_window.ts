/**
 * How much an agent's session may have on its way. The transport's backlog is counted from write() to the call of its
 * callback, since stopping at `write() === false` would halve the throughput (one high-water mark at a time).
 */
import { strict as assert } from 'node:assert';
import type { SessionLimits } from './session_limits.js';

export class ShipWindow {
  #unsentBytes = 0;
  #unackedBytes = 0;
  readonly #unacked: { lastLsn: bigint; bytes: number }[] = [];

  constructor(private readonly limits: Pick<SessionLimits, 'unsentBytesMax' | 'unackedBytesMax'>) {}

  /** A new connection: nothing is on its way. */
  reset(): void {
    this.#unsentBytes = 0;
    this.#unackedBytes = 0;
    this.#unacked.length = 0;
  }
  frameWritten(lastLsn: bigint, bytes: number): void {
    this.#unsentBytes += bytes;
    this.#unackedBytes += bytes;
    this.#unacked.push({ lastLsn, bytes });
  }
  pieceWritten(bytes: number): void {
    this.#unsentBytes += bytes;
  }
  sent(bytes: number): void {
    this.#unsentBytes -= bytes;
    assert(this.#unsentBytes >= 0, 'the transport sent more than it was given');
  }
  acked(durableLsn: bigint): void {
    let done = 0;
    for (const frame of this.#unacked) {
      if (frame.lastLsn > durableLsn) break;
      this.#unackedBytes -= frame.bytes;
      done += 1;
    }
    this.#unacked.splice(0, done);
  }
  /** Whether another frame may be pulled. A single frame may go over the limit: it could be larger than all of it. */
  get hasRoom(): boolean {
    return this.transportHasRoom && this.#unackedBytes < this.limits.unackedBytesMax;
  }
  get transportHasRoom(): boolean {
    return this.#unsentBytes < this.limits.unsentBytesMax;
  }
}
