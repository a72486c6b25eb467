import { higher } from '../proto/watermarks.js';
export class GenerationChange {
    lsnReserve;
    shipment;
    store;
    /** What the receiver said last. */
    peer = {
        generation: 0n,
        durableLsn: 0n,
        hashKey: Buffer.alloc(0),
    };
    /** Why the generation before could not go on. */
    reason = '';
    #numbers = { epoch: 0n, generation: 0n, firstLsn: 1n, lsnCeiling: 0n };
    constructor(lsnReserve, shipment, store) {
        this.lsnReserve = lsnReserve;
        this.shipment = shipment;
        this.store = store;
    }
    /** As last reserved. */
    get numbers() {
        return this.#numbers;
    }
    /** Puts the numbers on stable storage, above all that either side ever used, before anybody hears of them. */
    reserve() {
        const { marks, usedLsnMax } = this.shipment;
        const { state } = this.store;
        const used = higher(usedLsnMax, higher(marks.durable, this.peer.durableLsn));
        const generation = higher(state.generation, this.peer.generation) + 1n;
        const lsnCeiling = higher(state.lsnCeiling, used + this.lsnReserve);
        this.#numbers = { epoch: state.epoch, generation, firstLsn: used + 1n, lsnCeiling };
        this.store.persist('generation', { generation, lsnCeiling, durableLsn: marks.durable });
    }
}
//# sourceMappingURL=generation_change.js.map