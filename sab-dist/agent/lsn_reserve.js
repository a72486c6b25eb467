export class LsnReserve {
    count;
    shipment;
    store;
    /** Being stored. */
    #raising = null;
    constructor(
    /** LSNs reserved at once. */
    count, shipment, store) {
        this.count = count;
        this.shipment = shipment;
        this.store = store;
    }
    /** Reserves more when half is used. */
    advance() {
        const { stream, marks, usedLsnMax } = this.shipment;
        if (stream.state !== 'live' || this.#raising !== null)
            return;
        if (usedLsnMax - marks.captured >= this.count / 2n)
            return;
        const lsn = marks.captured + this.count;
        this.#raising = { generation: stream.generation, lsn };
        this.store.persist('ceiling', { durableLsn: marks.durable, lsnCeiling: lsn });
    }
    /** They may be used, unless the stream that they were for is over. */
    stored() {
        if (this.#raising !== null)
            this.shipment.raiseCeiling(this.#raising.generation, this.#raising.lsn);
        this.#raising = null;
    }
    failed() {
        this.#raising = null;
    }
}
//# sourceMappingURL=lsn_reserve.js.map