/** Bytes per second over the last WINDOW_S seconds: both ends of a stream say the same. */
const WINDOW_S = 10;

export class Throughput {
  /** Bytes of each whole second, by second modulo the window. */
  private readonly slots = Array.from({ length: WINDOW_S }, () => ({ second: -1, bytes: 0 }));

  /** `nowMs`: a clock that does not go back. */
  constructor(private readonly nowMs: () => number) {}

  /** All that was ever added. */
  total = 0n;

  add(bytes: number): void {
    this.total += BigInt(bytes);
    const second = this.second();
    const slot = this.slots[second % WINDOW_S];
    if (slot === undefined) return;
    if (slot.second !== second) {
      slot.second = second;
      slot.bytes = 0;
    }
    slot.bytes += bytes;
  }

  bytesPerSecond(): bigint {
    const now = this.second();
    const recent = this.slots.filter(({ second }) => second >= 0 && now - second < WINDOW_S);
    const bytes = recent.reduce((sum, slot) => sum + slot.bytes, 0);
    return BigInt(Math.round(bytes / WINDOW_S));
  }

  private second(): number {
    return Math.floor(this.nowMs() / 1000);
  }
}
