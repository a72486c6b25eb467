/**
 * How long receivers have run on this store, in all: what the ages of records are reckoned in. No wall clock is in it, so
 * that none that jumps makes history old; while no receiver runs nothing ages. What ran since it was written down last is
 * lost with a crash: history is then kept that much longer.
 */
import type { HeldWindowTable } from '../catalog/held_windows.js';

const NS_PER_MS = 1_000_000;

export class RunningTime {
  private readonly beginNs: bigint;
  private readonly beginMs: number;

  /** `elapsedMs`: a clock that does not go back. */
  constructor(
    private readonly table: HeldWindowTable,
    private readonly elapsedMs: () => number,
  ) {
    this.beginNs = table.elapsedNs();
    this.beginMs = elapsedMs();
  }

  nowNs(): bigint {
    return this.beginNs + BigInt(Math.round((this.elapsedMs() - this.beginMs) * NS_PER_MS));
  }

  /** Writes it down. */
  persist(): void {
    this.table.setElapsed(this.nowNs());
  }
}
