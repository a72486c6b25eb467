/**
 * RPO lag as it was measured, one sample per acknowledged frame: a histogram of fixed size over the last minute. Buckets are log-scaled, so a percentile is at most an eighth of an octave (9 %) above the sample.
 */
const BUCKETS_PER_OCTAVE = 8;
const OCTAVES = 40; // 1 µs … 12 days
const BUCKET_COUNT = BUCKETS_PER_OCTAVE * OCTAVES;
const NS_MIN = 1_000;
const SLICE_MS = 1_000;
const SLICE_COUNT = 60;

export class LagHistogram {
  /** One histogram per second of the last minute, in a circle. */
  private readonly slices = Array.from({ length: SLICE_COUNT }, () => new Uint32Array(BUCKET_COUNT));
  /** Of all slices together: every status asks for it. */
  private readonly sum = new Float64Array(BUCKET_COUNT);
  private newestSlice: number;

  /** `monotonicMs` never goes backwards. */
  constructor(private readonly monotonicMs: () => number) {
    this.newestSlice = Math.floor(monotonicMs() / SLICE_MS);
  }

  /** Adds a sample; a negative one (the clock was stepped) counts as none at all. */
  record(lagNs: bigint): void {
    this.advance();
    const bucket = bucketOf(Number(lagNs));
    this.slices[this.newestSlice % SLICE_COUNT]![bucket]! += 1;
    this.sum[bucket]! += 1;
  }

  /** The lag in nanoseconds that `share` (0 < share ≤ 1) of the last 60 s' samples do not exceed; 0n without samples. */
  lastMinute(share: number): bigint {
    this.advance();
    return percentile(this.sum, share);
  }

  /** Empties the slices of the seconds that passed since the last call. */
  private advance(): void {
    const now = Math.floor(this.monotonicMs() / SLICE_MS);
    const steps = Math.min(now - this.newestSlice, SLICE_COUNT);
    for (let step = 1; step <= steps; step += 1) {
      const slice = this.slices[(this.newestSlice + step) % SLICE_COUNT]!;
      for (let bucket = 0; bucket < BUCKET_COUNT; bucket += 1) this.sum[bucket]! -= slice[bucket]!;
      slice.fill(0);
    }
    if (steps > 0) this.newestSlice = now;
  }
}

function bucketOf(ns: number): number {
  if (ns <= NS_MIN) return 0;
  const bucket = Math.ceil(Math.log2(ns / NS_MIN) * BUCKETS_PER_OCTAVE);
  return Math.min(bucket, BUCKET_COUNT - 1);
}

function percentile(counts: Float64Array, share: number): bigint {
  const samples = counts.reduce((sum, count) => sum + count, 0);
  if (samples === 0) return 0n;
  const rank = Math.ceil(samples * share);
  let below = 0;
  let bucket = 0;
  for (; bucket < BUCKET_COUNT - 1; bucket += 1) {
    below += counts[bucket]!;
    if (below >= rank) break;
  }
  return BigInt(Math.round(NS_MIN * 2 ** (bucket / BUCKETS_PER_OCTAVE)));
}
