/**
 * Time and chance, as the agent's parts see them: handed in by main, replaced by tests.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** CLOCK_REALTIME in nanoseconds since 1970; a millisecond is its resolution. */
  nowNs(): bigint;
  /** Milliseconds that never go backwards, from an arbitrary origin. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}

export const systemClock: Clock = {
  nowNs: () => BigInt(Date.now()) * 1_000_000n,
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { signal }),
  random: () => Math.random(),
};
