/** How long a clean stop waits for the receiver to have everything on stable storage: as long as it makes progress. */
/** Since the last record became durable. */
const STALLED_MS_MAX = 10_000;
/** As long as the receiver is away: it may be just reconnecting. */
const AWAY_MS_MAX = 2_000;
export class StopPatience {
    #progressedMs;
    #connectedMs;
    #durableLsn = null;
    constructor(nowMs) {
        this.#progressedMs = this.#connectedMs = nowMs;
    }
    /** Ask again and again; `nowMs` never goes backwards. */
    isOver(nowMs, durableLsn, isConnected) {
        if (this.#durableLsn !== null && durableLsn > this.#durableLsn)
            this.#progressedMs = nowMs;
        this.#durableLsn = durableLsn;
        if (isConnected)
            this.#connectedMs = nowMs;
        return nowMs - this.#progressedMs >= STALLED_MS_MAX || nowMs - this.#connectedMs >= AWAY_MS_MAX;
    }
}
//# sourceMappingURL=stop_patience.js.map