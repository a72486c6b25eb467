/**
 * Hashes of a volume's content for a resync, block by block: HMAC-SHA-256 with the session's key, so that nobody who
 * can write to a volume can make two blocks look equal. Computed off the main thread.
 */
import { webcrypto } from 'node:crypto';
import { toAfterimageError } from '../proto/errors.js';
export const HASH_BYTES = 32;
export class BlockHashes {
    hashKey;
    /** One opened state per volume: a resync reads it from end to end. */
    open = new Map();
    key = null;
    constructor(hashKey) {
        this.hashKey = hashKey;
    }
    /**
     * HASH_BYTES a block, the last block may be short. What cannot be read, or not even opened, gets zeroes, which equal
     * no hash: the agent sends it again. Errors: those of opening the point that are not about damage.
     */
    async hash(volume, open, range) {
        let held = this.open.get(volume);
        if (held === undefined) {
            held = await openUndamaged(open);
            this.open.set(volume, held);
        }
        const count = Math.ceil(range.length / range.blockBytes);
        const hashes = Buffer.alloc(count * HASH_BYTES);
        if (held === null)
            return hashes;
        const { device } = held;
        const content = Buffer.allocUnsafe(range.length);
        const isWhole = await isReadable(device, range.offset, content);
        for (let index = 0; index < count; index += 1) {
            const start = index * range.blockBytes;
            const block = content.subarray(start, start + range.blockBytes);
            if (isWhole || (await isReadable(device, range.offset + BigInt(start), block))) {
                hashes.set(await this.sign(block), index * HASH_BYTES);
            }
        }
        return hashes;
    }
    /** Closes the state of a volume whose resync has ended. */
    async release(volume) {
        const held = this.open.get(volume);
        this.open.delete(volume);
        await held?.device.close();
        held?.release();
    }
    async close() {
        for (const volume of [...this.open.keys()])
            await this.release(volume);
    }
    async sign(block) {
        this.key ??= webcrypto.subtle.importKey('raw', this.hashKey, { name: 'HMAC', hash: 'SHA-256' }, false, [
            'sign',
        ]);
        return new Uint8Array(await webcrypto.subtle.sign('HMAC', await this.key, block));
    }
}
async function openUndamaged(open) {
    try {
        return await open();
    }
    catch (thrown) {
        const error = toAfterimageError(thrown);
        if (['SEGMENT_CORRUPT', 'POINT_UNKNOWN', 'POINT_EXPIRED'].includes(error.code))
            return null;
        throw error;
    }
}
async function isReadable(device, offset, into) {
    try {
        await device.read(offset, into);
        return true;
    }
    catch (thrown) {
        if (toAfterimageError(thrown).code === 'IO_ERROR')
            return false;
        throw thrown;
    }
}
//# sourceMappingURL=block_hashes.js.map