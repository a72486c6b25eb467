import { AfterimageError } from '../proto/errors.js';
import { HASH_BYTES } from '../proto/replication.js';
/** Largest record, and so the longest stretch that is republished under one extent lock. */
export const PIECE_BYTES_MAX = 1 << 20;
/** How long a sync stands back when the ring is more than half full: production's records go first. */
const STAND_BACK_MS = 20;
export class Sync {
    codec;
    isRingBusy;
    clock;
    stopping;
    /** `isRingBusy`: more than half of the ring is in use. */
    constructor(codec, isRingBusy, clock, stopping) {
        this.codec = codec;
        this.isRingBusy = isRingBusy;
        this.clock = clock;
        this.stopping = stopping;
    }
    /** Errors: IO_ERROR, INTERRUPTED. */
    async readPiece(volume, { offset, length }) {
        while (this.isRingBusy())
            await this.standBack();
        const raw = Buffer.allocUnsafe(length);
        await volume.read(offset, raw);
        if (this.codec.isZero(raw)) {
            return { data: Buffer.alloc(0), rawBytes: length, compressed: false, crc32c: 0 };
        }
        const block = this.codec.compress(raw);
        const data = block ?? raw;
        return { data, rawBytes: length, compressed: block !== null, crc32c: this.codec.crc32c(data) };
    }
    /**
     * Compares the volume with what the receiver holds and republishes what differs: the records that this makes, with
     * those of production, lead from the receiver's content to the volume's. `isOpen` is false when the stream was closed
     * before all was republished. Errors: IO_ERROR, INTERRUPTED, MESSAGE_INVALID.
     */
    async compare(volume, range, expected) {
        const differing = await this.differing(volume, range, expected);
        for (const { offset, length } of differing) {
            if (!(await this.republish(volume, offset, length)))
                return { isOpen: false, differing };
        }
        return { isOpen: true, differing };
    }
    /** The stretches of blocks in which the volume is not what the receiver holds. Errors: IO_ERROR, MESSAGE_INVALID. */
    async differing(volume, range, expected) {
        const { blockBytes, hashes, hashKey } = expected;
        const count = Math.ceil(range.length / blockBytes);
        if (hashes.length !== count * HASH_BYTES) {
            throw new AfterimageError('MESSAGE_INVALID', `${hashes.length} bytes of hashes for ${count} blocks`);
        }
        const bytes = Buffer.allocUnsafe(range.length);
        await volume.read(range.offset, bytes);
        const key = await crypto.subtle.importKey('raw', hashKey, { name: 'HMAC', hash: 'SHA-256' }, false, [
            'sign',
        ]);
        const equal = await Promise.all(Array.from({ length: count }, async (_, index) => {
            const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
            const own = Buffer.from(await crypto.subtle.sign('HMAC', key, block));
            return own.equals(hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES));
        }));
        return [...differingRuns(equal, range, blockBytes)];
    }
    async republish(volume, offset, length) {
        for (;;) {
            const lsn = await volume.republish(offset, length);
            if (lsn !== null)
                return lsn !== 0n;
            await this.standBack();
        }
    }
    /** Errors: INTERRUPTED. */
    async standBack() {
        try {
            await this.clock.sleep(STAND_BACK_MS, this.stopping);
        }
        catch (cause) {
            throw new AfterimageError('INTERRUPTED', 'the agent stops', { cause });
        }
    }
}
/** The stretches of unequal blocks, none longer than a record. */
function* differingRuns(equal, range, blockBytes) {
    let begin = 0;
    while (begin < equal.length) {
        if (equal[begin] === true) {
            begin += 1;
            continue;
        }
        let end = begin + 1;
        while (end < equal.length && equal[end] === false && (end + 1 - begin) * blockBytes <= PIECE_BYTES_MAX)
            end += 1;
        const first = begin * blockBytes;
        const last = Math.min(end * blockBytes, range.length);
        yield { offset: range.offset + BigInt(first), length: last - first };
        begin = end;
    }
}
//# sourceMappingURL=sync.js.map