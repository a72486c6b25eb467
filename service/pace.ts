/** Keeps a background reader to a rate: whoever has read something says so, and waits as long as it has to. */

const MS_PER_SECOND = 1000n;
/** A pause is told to have ended by its signal this often at least. */
const PAUSE_MS_MAX = 1000;

export interface PaceParts {
  /** Milliseconds of a clock that only goes forward. */
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  /** No pause goes on once it is aborted. */
  signal: AbortSignal;
}

export class Pace {
  private readonly beganMs: number;
  private bytes = 0n;

  /** `rate`: bytes per second, null: as fast as it goes. */
  constructor(
    private readonly rate: bigint | null,
    private readonly parts: PaceParts,
  ) {
    this.beganMs = parts.nowMs();
  }

  async spent(bytes: bigint): Promise<void> {
    this.bytes += bytes;
    if (this.rate === null) return;
    const dueMs = this.beganMs + Number((this.bytes * MS_PER_SECOND) / this.rate);
    for (let leftMs = this.left(dueMs); leftMs > 0 && !this.parts.signal.aborted; leftMs = this.left(dueMs)) {
      await this.parts.sleep(Math.min(leftMs, PAUSE_MS_MAX));
    }
  }

  private left(dueMs: number): number {
    return dueMs - this.parts.nowMs();
  }
}
