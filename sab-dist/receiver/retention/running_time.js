const NS_PER_MS = 1_000_000;
export class RunningTime {
    table;
    elapsedMs;
    beginNs;
    beginMs;
    /** `elapsedMs`: a clock that does not go back. */
    constructor(table, elapsedMs) {
        this.table = table;
        this.elapsedMs = elapsedMs;
        this.beginNs = table.elapsedNs();
        this.beginMs = elapsedMs();
    }
    nowNs() {
        return this.beginNs + BigInt(Math.round((this.elapsedMs() - this.beginMs) * NS_PER_MS));
    }
    /** Writes it down. */
    persist() {
        this.table.setElapsed(this.nowNs());
    }
}
//# sourceMappingURL=running_time.js.map