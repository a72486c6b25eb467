import { claim } from './contradiction.js';
import type { JournalRecord } from './record.js';
import type { SegmentHeader } from './segment_header.js';

/** The size in bytes of every volume of a member, record after record. */
export class VolumeSizes {
  readonly #bytes = new Map<number, number>();
  #generation = 0n;

  /**
   * Takes over the sizes of volumes not seen before; those known must be what the records made them, or, where a generation
   * begins, more than that.
   */
  enter({ generation, volumes }: SegmentHeader): void {
    for (const { number, size } of volumes) {
      const known = this.#bytes.get(number) ?? size;
      const isGrown = generation > this.#generation && size > known;
      claim(
        known === size || isGrown,
        `header gives volume ${number} ${size} bytes, the records before it ${known}`,
      );
      this.#bytes.set(number, size);
    }
    this.#generation = generation;
  }

  /** Applies a record of a volume. Returns the volume's size before and after it. */
  apply(record: JournalRecord & { volume: number }): { before: number; after: number } {
    const before = this.#bytes.get(record.volume);
    claim(before !== undefined, `volume ${record.volume} is in no segment header`);
    const isSizing = record.kind === 'resize' || record.kind === 'membership';
    const after = isSizing ? record.offset : before;
    claim(record.offset + record.length <= after, `${record.kind} exceeds volume ${record.volume}`);
    this.#bytes.set(record.volume, after);
    return { before, after };
  }
}

export function hasVolume(record: JournalRecord): record is JournalRecord & { volume: number } {
  return record.volume !== null;
}
