/** The largest record, and room to spare: with less of the ring free, the next record may not have found any. */
const RECORD_BYTES_MAX = 2n << 20n;
const REASONS = {
    RING_FULL: 'the ring is full',
    LSN_CEILING: 'the LSNs that are reserved in the state are used up',
    BACKING_FAILED: 'a backing failed, and what it holds is not known',
};
export class Interruption {
    emit;
    #told = null;
    constructor(emit) {
        this.emit = emit;
    }
    /** The end of `generation` was pulled, or it was given up. */
    ended(generation, code) {
        if (this.#told?.generation === generation && this.#told.code === code)
            return;
        this.#told = { generation, code };
        const reason = REASONS[code] ?? 'the receiver cannot go on with the stream';
        const message = `${reason}: production goes on, and what it writes is in no record until a new generation begins`;
        this.emit({ type: 'interrupted', generation, code, message });
    }
    /**
     * The native group has closed the stream of `generation`. Its end, which has the reason, is pulled after all that the
     * ring holds: not before the receiver is back.
     */
    seen(generation, ring, lsnCeiling) {
        if (this.#told?.generation === generation)
            return;
        if (ring.capturedLsn >= lsnCeiling)
            this.ended(generation, 'LSN_CEILING');
        else if (ring.bytes - ring.usedBytes < RECORD_BYTES_MAX)
            this.ended(generation, 'RING_FULL');
    }
}
//# sourceMappingURL=interruption.js.map