/** Keeps a background reader to a rate: whoever has read something says so, and waits as long as it has to. */
const MS_PER_SECOND = 1000n;
/** A pause is told to have ended by its signal this often at least. */
const PAUSE_MS_MAX = 1000;
export class Pace {
    rate;
    parts;
    beganMs;
    bytes = 0n;
    /** `rate`: bytes per second, null: as fast as it goes. */
    constructor(rate, parts) {
        this.rate = rate;
        this.parts = parts;
        this.beganMs = parts.nowMs();
    }
    async spent(bytes) {
        this.bytes += bytes;
        if (this.rate === null)
            return;
        const dueMs = this.beganMs + Number((this.bytes * MS_PER_SECOND) / this.rate);
        for (let leftMs = this.left(dueMs); leftMs > 0 && !this.parts.signal.aborted; leftMs = this.left(dueMs)) {
            await this.parts.sleep(Math.min(leftMs, PAUSE_MS_MAX));
        }
    }
    left(dueMs) {
        return dueMs - this.parts.nowMs();
    }
}
//# sourceMappingURL=pace.js.map