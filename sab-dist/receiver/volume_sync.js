export class VolumeSync {
    limits;
    emit;
    #volume;
    #kind;
    #isWhole;
    /** Where the next piece may begin. */
    #nextOffset;
    #isBegun;
    /** Pieces handed to the file and not answered. */
    #writing = [];
    #writtenOffset;
    #writtenBytes = 0;
    #isSyncingBase = false;
    #hashing = 0;
    #doneLsn = null;
    #isMarking = false;
    /** The volume must be in the state that `fault` wants. */
    constructor(volume, begin, limits, emit) {
        this.limits = limits;
        this.emit = emit;
        this.#volume = volume;
        this.#kind = begin.kind;
        this.#isWhole = !begin.partial;
        this.#nextOffset = begin.offset;
        this.#writtenOffset = begin.offset;
        this.#isBegun = begin.kind === 'SYNC_RESYNC' || volume.base === 'BASE_SYNCING';
        if (!this.#isBegun)
            emit({ type: 'beginBase', volume: begin.volume });
    }
    /** Why the volume cannot be synced like this; null: it can. */
    static fault(volume, { kind, offset, partial }) {
        const { base, syncOffset, syncedLsn, info, whole } = volume;
        if (syncedLsn > 0n)
            return 'is synced';
        if (partial && (whole || kind !== 'SYNC_RESYNC'))
            return 'is in doubt as a whole';
        if (kind === 'SYNC_RESYNC') {
            if (base !== 'BASE_COMPLETE')
                return 'has no base to compare with';
            return offset > info.size ? 'is not that large' : null;
        }
        // Only an empty base is written directly: one that an ordered point rests on never again (R6).
        if (base === 'BASE_COMPLETE')
            return 'has a complete base';
        return offset === (base === 'BASE_EMPTY' ? 0n : syncOffset) ? null : 'goes on elsewhere';
    }
    get volume() {
        return this.#volume;
    }
    /** All of it is copied or compared. */
    get isWhole() {
        return this.#isWhole;
    }
    /** The agent found out that what it compares is not enough: it compares everything. */
    widen() {
        this.#isWhole = true;
    }
    /** From here on the volume will be consistent; null before SyncDone. */
    get doneLsn() {
        return this.#doneLsn;
    }
    /** Nothing that it asked for is unanswered. */
    get isIdle() {
        return (this.#isBegun &&
            this.#writing.length === 0 &&
            !this.#isSyncingBase &&
            this.#hashing === 0 &&
            !this.#isMarking);
    }
    /** Null, or what is wrong with the piece; likewise below. */
    data(piece) {
        const { offset, rawBytes } = piece;
        const end = offset + BigInt(rawBytes);
        if (this.#kind !== 'SYNC_INITIAL' || piece.volume !== this.#number || this.#doneLsn !== null) {
            return 'SyncData outside an initial sync';
        }
        if (rawBytes < 1 || rawBytes > this.limits.pieceBytesMax)
            return `SyncData of ${rawBytes} bytes`;
        if (offset < this.#nextOffset)
            return `SyncData at ${offset} after ${this.#nextOffset}`;
        if (end > this.#volume.info.size)
            return `SyncData at ${offset} beyond the end of the volume`;
        if (this.#writing.length >= this.limits.piecesMax)
            return 'more sync data than the window holds';
        this.#nextOffset = end;
        this.#writing.push({ end, bytes: rawBytes });
        this.emit({ type: 'writeBase', volume: this.#number, offset });
        return null;
    }
    hash({ id, volume, offset, length, blockBytes }, beforeLsn) {
        const { limits } = this;
        if (this.#kind !== 'SYNC_RESYNC' || volume !== this.#number || this.#doneLsn !== null) {
            return 'HashRequest outside a resync';
        }
        if (length < 1 || length > limits.hashBytesMax || offset + BigInt(length) > this.#volume.info.size) {
            return `HashRequest for ${length} bytes at ${offset}`;
        }
        if (blockBytes < limits.hashBlockBytesMin || blockBytes % 512 !== 0)
            return `blocks of ${blockBytes} bytes`;
        if (this.#hashing >= limits.hashRequestsMax)
            return `more than ${limits.hashRequestsMax} HashRequests`;
        this.#hashing += 1;
        this.emit({ type: 'hash', id, volume, offset, length, blockBytes, beforeLsn });
        return null;
    }
    done({ volume, lsn }, firstLsn) {
        if (volume !== this.#number || this.#doneLsn !== null)
            return 'SyncDone without a sync';
        if (lsn < firstLsn - 1n)
            return `SyncDone at ${lsn}, before the generation`;
        this.#doneLsn = lsn;
        return null;
    }
    begun() {
        this.#isBegun = true;
        this.#volume.base = 'BASE_SYNCING';
        this.#volume.syncOffset = 0n;
    }
    written() {
        const piece = this.#writing.shift();
        if (piece === undefined)
            return;
        this.#writtenOffset = piece.end;
        this.#writtenBytes += piece.bytes;
    }
    baseSynced(offset) {
        this.#isSyncingBase = false;
        this.#volume.syncOffset = offset;
    }
    hashed() {
        this.#hashing -= 1;
    }
    /** Makes the base durable when enough of it was written, and when all of it was. */
    advance() {
        if (this.#kind === 'SYNC_RESYNC' || !this.#isBegun || this.#isSyncingBase)
            return;
        const isLast = this.#doneLsn !== null && this.#writing.length === 0 && !this.#isBaseDurable;
        if (!isLast && this.#writtenBytes < this.limits.baseSyncBytes)
            return;
        this.#isSyncingBase = true;
        this.#writtenBytes = 0;
        const offset = isLast ? this.#volume.info.size : this.#writtenOffset;
        this.emit({ type: 'syncBase', volume: this.#number, offset });
    }
    /** True once, when the volume is consistent from `doneLsn` on. */
    mark(durableLsn) {
        if (this.#doneLsn === null || this.#doneLsn > durableLsn || this.#isMarking || !this.isIdle)
            return false;
        if (this.#kind === 'SYNC_INITIAL' && !this.#isBaseDurable)
            return false;
        this.#isMarking = true;
        return true;
    }
    marked(lsn) {
        this.#isMarking = false;
        this.#volume.base = 'BASE_COMPLETE';
        this.#volume.syncedLsn = lsn;
        if (this.#isWhole)
            this.#volume.whole = false;
    }
    get #number() {
        return this.#volume.info.number;
    }
    get #isBaseDurable() {
        return this.#volume.syncOffset === this.#volume.info.size;
    }
}
//# sourceMappingURL=volume_sync.js.map