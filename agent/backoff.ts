/**
 * How long to wait before the next attempt: exponential with full jitter, so that many agents whose receiver came
 * back do not all knock at the same moment.
 */
export const BACKOFF_MS_MIN = 100;
export const BACKOFF_MS_MAX = 10_000;

export class Backoff {
  private failures = 0;

  /** `random` is uniform in [0, 1). */
  constructor(private readonly random: () => number) {}

  /** Milliseconds to wait after one more failure: uniform in [0, min(MAX, MIN · 2^failures)). */
  next(): number {
    const bound = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.failures);
    if (bound < BACKOFF_MS_MAX) this.failures += 1;
    return this.random() * bound;
  }

  /** The attempt succeeded: the next failure starts from the beginning. */
  reset(): void {
    this.failures = 0;
  }
}
