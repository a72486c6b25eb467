export class MemberVolumes {
    #volumes;
    constructor(volumes) {
        this.#volumes = volumes.map((volume) => ({ ...volume }));
    }
    get(number) {
        return this.#volumes.find(({ info }) => info.number === number);
    }
    /** For Welcome and GenerationAccepted. */
    get states() {
        return this.#volumes.map(({ info, base, syncOffset, syncedLsn, whole }) => ({
            number: info.number,
            base,
            syncOffset,
            synced: syncedLsn > 0n,
            whole,
        }));
    }
    /** Every LSN of the generation from here on shows all volumes consistently; null while one is not synced. */
    get orderedFromLsn() {
        return this.orderedFromLsnWith(null, 0n);
    }
    /** The same, once volume `number` is consistent from `lsn` on. */
    orderedFromLsnWith(number, lsn) {
        let from = 0n;
        for (const volume of this.#volumes) {
            const syncedLsn = volume.info.number === number ? lsn : volume.syncedLsn;
            if (syncedLsn === 0n)
                return null;
            if (syncedLsn > from)
                from = syncedLsn;
        }
        return from === 0n ? null : from;
    }
}
//# sourceMappingURL=member_volumes.js.map