/**
 * What an agent's session remembers of how the receiver behaves: whether it answers, and what it refuses or cannot be
 * given.
 */
import type { Refused } from '../proto/replication.js';
import type { SessionLimits } from './session_limits.js';

/** Refusals that concern the records themselves: sending the same again may not help. */
const RECORD_REFUSALS: readonly string[] = [
  'FRAME_CORRUPT',
  'FRAME_TRUNCATED',
  'FRAME_GENERATION',
  'FRAME_REPEATED',
  'FRAME_GAP',
  'FRAME_LINK',
  'RECORD_INVALID',
  'GENERATION_UNKNOWN',
];
/**
 * Where the receiver says that trying again does not help, attempts are spaced as if so many more had failed each time, up
 * to so many: what it says once, after it has long acknowledged, may have been a single error of its disk.
 */
const ATTEMPTS_PER_REFUSAL = 2;
const ATTEMPT_OF_REFUSAL_MAX = 7;

export class ReceiverConduct {
  #attempt = 0;
  /** Refusals that are said to be for good, since the last Ack. */
  #hopeless = 0;
  #silentTicks = 0;
  /** Refusals of records in a row, without one becoming durable. */
  #refusals = 0;
  #refusalCode = '';

  constructor(private readonly limits: Pick<SessionLimits, 'silenceTicksMax' | 'refusalsMax'>) {}

  /** The number of the next attempt to connect, since the last Ack. */
  nextAttempt(): number {
    this.#attempt += 1;
    return this.#attempt - 1;
  }
  heard(): void {
    this.#silentTicks = 0;
  }
  acknowledged(): void {
    this.#attempt = 0;
    this.#hopeless = 0;
  }
  /** Something became durable, or other records are sent from now on. */
  progressed(): void {
    this.#refusals = 0;
  }
  refused({ code, retryable }: Refused): void {
    if (RECORD_REFUSALS.includes(code)) {
      this.#refusals += 1;
      this.#refusalCode = code;
    }
    if (retryable) return;
    const failed = Math.min(1 + this.#hopeless * ATTEMPTS_PER_REFUSAL, ATTEMPT_OF_REFUSAL_MAX);
    this.#hopeless += 1;
    this.#attempt = Math.max(this.#attempt, failed);
  }
  /** The next records cannot be sent: no more than if they were refused. */
  lost(code: string): void {
    this.#refusals = this.limits.refusalsMax;
    this.#refusalCode = code;
  }
  /** Why the stream does not go on: the code with which the same records were refused again and again, or lost; or null. */
  get endOfStream(): string | null {
    return this.#refusals >= this.limits.refusalsMax ? this.#refusalCode : null;
  }
  /** A second has passed. True when the receiver owes a word (`isOwed`) for too long. */
  isSilent(isOwed: boolean): boolean {
    this.#silentTicks = isOwed ? this.#silentTicks + 1 : 0;
    return this.#silentTicks > this.limits.silenceTicksMax;
  }
}
