/**
 * How much an agent's session may have on its way. The transport's backlog is counted from write() to the call of its
 * callback, since stopping at `write() === false` would halve the throughput (one high-water mark at a time).
 */
import { strict as assert } from 'node:assert';
export class ShipWindow {
    limits;
    #unsentBytes = 0;
    #unackedBytes = 0;
    #unacked = [];
    constructor(limits) {
        this.limits = limits;
    }
    /** A new connection: nothing is on its way. */
    reset() {
        this.#unsentBytes = 0;
        this.#unackedBytes = 0;
        this.#unacked.length = 0;
    }
    frameWritten(lastLsn, bytes) {
        this.#unsentBytes += bytes;
        this.#unackedBytes += bytes;
        this.#unacked.push({ lastLsn, bytes });
    }
    pieceWritten(bytes) {
        this.#unsentBytes += bytes;
    }
    sent(bytes) {
        this.#unsentBytes -= bytes;
        assert(this.#unsentBytes >= 0, 'the transport sent more than it was given');
    }
    acked(durableLsn) {
        let done = 0;
        for (const frame of this.#unacked) {
            if (frame.lastLsn > durableLsn)
                break;
            this.#unackedBytes -= frame.bytes;
            done += 1;
        }
        this.#unacked.splice(0, done);
    }
    /** Whether another frame may be pulled. A single frame may go over the limit: it could be larger than all of it. */
    get hasRoom() {
        return this.transportHasRoom && this.#unackedBytes < this.limits.unackedBytesMax;
    }
    get transportHasRoom() {
        return this.#unsentBytes < this.limits.unsentBytesMax;
    }
}
//# sourceMappingURL=ship_window.js.map