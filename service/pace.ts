/** Keeps a background reader to a rate: whoever has read something says so, and waits as long as it has to. */

const MS_PER_SECOND = 1000;
/** A pause is told to have ended by its signal this often at least. */
const PAUSE_MS_MAX = 1000;
/** What was not read for so long, and no longer, may be made up for. */
const CREDIT_MS_MAX = 1000;

export interface PaceParts {
  /** Milliseconds of a clock that only goes forward. */
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  /** No pause goes on once it is aborted. */
  signal: AbortSignal;
}

export class Pace {
  /** When what was read until now should have been. */
  private dueMs: number;

  /** `rate`: bytes per second, null: as fast as it goes. */
  constructor(
    private readonly rate: bigint | null,
    private readonly parts: PaceParts,
  ) {
    this.dueMs = parts.nowMs();
  }

  async spent(bytes: bigint): Promise<void> {
    if (this.rate === null) return;
    const { nowMs, sleep, signal } = this.parts;
    const dueMs = Math.max(this.dueMs, nowMs() - CREDIT_MS_MAX);
    this.dueMs = dueMs + (Number(bytes) * MS_PER_SECOND) / Number(this.rate);
    for (;;) {
      const leftMs = this.dueMs - nowMs();
      if (leftMs <= 0 || signal.aborted) return;
      await sleep(Math.min(leftMs, PAUSE_MS_MAX));
    }
  }
}
