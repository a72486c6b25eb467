/** Bytes per second of a counter that only rises, over the last full second or so. */
const SAMPLE_MS_MIN = 500;

export class Throughput {
  private rate = 0n;
  private sampledMs: number;
  private sampledBytes = 0n;

  constructor(private readonly monotonicMs: () => number) {
    this.sampledMs = monotonicMs();
  }

  /** Call it about once a second with the counter. */
  sample(bytes: bigint): void {
    const now = this.monotonicMs();
    const elapsedMs = now - this.sampledMs;
    if (elapsedMs < SAMPLE_MS_MIN) return;
    this.rate = ((bytes - this.sampledBytes) * 1000n) / BigInt(Math.round(elapsedMs));
    this.sampledMs = now;
    this.sampledBytes = bytes;
  }

  get bytesPerSecond(): bigint {
    return this.rate;
  }
}
