/** Bytes per second over the last WINDOW_S seconds: both ends of a stream say the same. */
const WINDOW_S = 10;
export class Throughput {
    nowMs;
    /** Bytes of each whole second, by second modulo the window. */
    slots = Array.from({ length: WINDOW_S }, () => ({ second: -1, bytes: 0 }));
    /** `nowMs`: a clock that does not go back. */
    constructor(nowMs) {
        this.nowMs = nowMs;
    }
    add(bytes) {
        const second = this.second();
        const slot = this.slots[second % WINDOW_S];
        if (slot === undefined)
            return;
        if (slot.second !== second) {
            slot.second = second;
            slot.bytes = 0;
        }
        slot.bytes += bytes;
    }
    bytesPerSecond() {
        const now = this.second();
        const recent = this.slots.filter(({ second }) => second >= 0 && now - second < WINDOW_S);
        const bytes = recent.reduce((sum, slot) => sum + slot.bytes, 0);
        return BigInt(Math.round(bytes / WINDOW_S));
    }
    second() {
        return Math.floor(this.nowMs() / 1000);
    }
}
//# sourceMappingURL=throughput.js.map