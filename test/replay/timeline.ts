import { claim } from './contradiction.js';
import type { Frame } from './frame.js';

/** The eras of a stream, and that time rises within each. */
export class Timeline {
  #era: number | null = null;
  #lastTimeNs = 0n;
  readonly #erasEnded = new Set<number>();

  follow({ header, records }: Frame): void {
    const isEraNew = header.era !== this.#era;
    if (isEraNew) {
      if (this.#era !== null) this.#erasEnded.add(this.#era);
      claim(!this.#erasEnded.has(header.era), `era ${header.era} comes back`);
    } else {
      claim(records[0]?.kind !== 'clock', 'clock record begins no new era');
      claim(header.firstTimeNs > this.#lastTimeNs, 'time does not rise from one frame to the next');
    }
    this.#era = header.era;
    this.#lastTimeNs = header.lastTimeNs;
  }
}
