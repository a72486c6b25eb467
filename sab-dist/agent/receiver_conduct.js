/** Refusals that concern the records themselves: sending the same again may not help. */
const RECORD_REFUSALS = [
    'FRAME_CORRUPT',
    'FRAME_TRUNCATED',
    'FRAME_GENERATION',
    'FRAME_REPEATED',
    'FRAME_GAP',
    'FRAME_LINK',
    'RECORD_INVALID',
    'GENERATION_UNKNOWN',
];
/** Attempts are spaced as if this many had failed, where the receiver says that trying again does not help. */
const ATTEMPT_OF_REFUSAL = 7;
export class ReceiverConduct {
    limits;
    #attempt = 0;
    #silentTicks = 0;
    /** Refusals of records in a row, without one becoming durable. */
    #refusals = 0;
    #refusalCode = '';
    constructor(limits) {
        this.limits = limits;
    }
    /** The number of the next attempt to connect, since the last Ack. */
    nextAttempt() {
        this.#attempt += 1;
        return this.#attempt - 1;
    }
    heard() {
        this.#silentTicks = 0;
    }
    acknowledged() {
        this.#attempt = 0;
    }
    /** Something became durable, or other records are sent from now on. */
    progressed() {
        this.#refusals = 0;
    }
    refused({ code, retryable }) {
        if (RECORD_REFUSALS.includes(code)) {
            this.#refusals += 1;
            this.#refusalCode = code;
        }
        if (!retryable)
            this.#attempt = Math.max(this.#attempt, ATTEMPT_OF_REFUSAL);
    }
    /** The code with which the same records were refused again and again; null: they were not. */
    get stubbornRefusal() {
        return this.#refusals >= this.limits.refusalsMax ? this.#refusalCode : null;
    }
    /** A second has passed. True when the receiver owes a word (`isOwed`) for too long. */
    isSilent(isOwed) {
        this.#silentTicks = isOwed ? this.#silentTicks + 1 : 0;
        return this.#silentTicks > this.limits.silenceTicksMax;
    }
}
//# sourceMappingURL=receiver_conduct.js.map