/**
 * What the session knows of the stream in the member's capture group: which generation it is, whether it has ended,
 * and how far it was used. The session follows the native group, which ends a stream on its own.
 */
import { strict as assert } from 'node:assert';
export class Capture {
    stream = { state: 'none' };
    #usedLsnMax;
    constructor(usedLsnMax) {
        this.#usedLsnMax = usedLsnMax;
    }
    /** No LSN above it was ever used. While a stream is live nobody here knows better than its ceiling. */
    get usedLsnMax() {
        return this.#usedLsnMax;
    }
    begin(numbers) {
        assert(this.stream.state === 'none', `a generation began while one was ${this.stream.state}`);
        this.stream = { state: 'live', generation: numbers.generation };
        this.#usedLsnMax = numbers.lsnCeiling;
    }
    raiseCeiling(lsn) {
        if (this.stream.state === 'live')
            this.#usedLsnMax = lsn;
    }
    abandon(reason) {
        assert(this.stream.state === 'live', 'only a live stream can be abandoned');
        this.stream = { state: 'abandoned', generation: this.stream.generation, reason };
    }
    /** The end was pulled. The numbers between its last LSN and the ceiling were never given. */
    end(generation, lastLsn, reason, timeNs) {
        if (this.stream.state === 'live' && this.stream.generation === generation) {
            this.stream = { state: 'ended', generation, lastLsn, reason, timeNs };
            this.#usedLsnMax = lastLsn;
        }
        else if (this.stream.state === 'abandoned' && this.stream.generation === generation) {
            this.stream = { state: 'none' };
            this.#usedLsnMax = lastLsn;
        }
        // Else it is the end of a stream that was shipped again after its end: known already.
    }
    /** What an ended stream left in the ring is durable, or of no use to anybody. */
    forget() {
        if (this.stream.state === 'ended')
            this.stream = { state: 'none' };
    }
}
//# sourceMappingURL=capture_stream.js.map