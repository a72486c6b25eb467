import { claim } from './contradiction.js';
/** The eras of a stream, and that time rises within each. */
export class Timeline {
    #era = null;
    #lastTimeNs = 0n;
    #erasEnded = new Set();
    follow({ header, records }) {
        const isEraNew = header.era !== this.#era;
        if (isEraNew) {
            if (this.#era !== null)
                this.#erasEnded.add(this.#era);
            claim(!this.#erasEnded.has(header.era), `era ${header.era} comes back`);
        }
        else {
            claim(records[0]?.kind !== 'clock', 'clock record begins no new era');
            claim(header.firstTimeNs > this.#lastTimeNs, 'time does not rise from one frame to the next');
        }
        this.#era = header.era;
        this.#lastTimeNs = header.lastTimeNs;
    }
}
//# sourceMappingURL=timeline.js.map