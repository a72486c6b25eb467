/**
 * Coverage: up to which time it is known that nothing is missing. An agent says it once a second, by its host's clock,
 * which may be wrong and be set right: so it holds within one time era of one generation, and is believed no longer
 * than the clock goes on from there.
 */
import type { Coverage } from './catalog/members.js';
import type { EraRow } from './catalog/eras.js';

/**
 * Up to when the generation that begins with `firstLsn` is covered behind its last record; 0n: no further than that.
 * `eras`: of the member, up to the end of that generation.
 */
export function coveredTime(coverage: Coverage, firstLsn: bigint, eras: readonly EraRow[]): bigint {
  // A generation without a record stands just before its first LSN.
  if (coverage.lsn < firstLsn - 1n) return 0n;
  const era = eras.at(-1);
  return era !== undefined && era.firstLsn > coverage.lsn ? 0n : coverage.timeNs;
}
