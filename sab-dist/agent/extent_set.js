/** A set of extents of one volume: those that are in doubt, or all of them. Immutable. */
import { strict as assert } from 'node:assert';
export class ExtentSet {
    size;
    extentBytes;
    bitmap;
    /** Bytes of the volume that are in the set. */
    bytes;
    constructor(size, extentBytes, 
    /** Bit e of byte e / 8 stands for extent e; null: all are in it. */
    bitmap) {
        this.size = size;
        this.extentBytes = extentBytes;
        this.bitmap = bitmap;
        let bytes = 0n;
        for (let at = this.next(0n); at !== null; at = this.next(at.end))
            bytes += at.end - at.begin;
        this.bytes = bytes;
    }
    /** Everything in a volume of `size` bytes. */
    static whole(size) {
        return new ExtentSet(size, size, null);
    }
    /** What `bitmap` has of a volume of `size` bytes in extents of `extentBytes`. */
    static of(size, extentBytes, bitmap) {
        assert(BigInt(bitmap.length) * 8n * BigInt(extentBytes) >= size, 'a bit for each extent');
        return new ExtentSet(size, BigInt(extentBytes), bitmap);
    }
    get isWhole() {
        return this.bitmap === null;
    }
    /** Whether the byte at `offset` is in it. */
    has(offset) {
        return this.bitmap === null || this.isSet(this.bitmap, Number(offset / this.extentBytes));
    }
    /** The first stretch of it at or after `offset`, as far as it reaches; null: there is none. */
    next(offset) {
        if (offset >= this.size)
            return null;
        if (this.bitmap === null)
            return { begin: offset, end: this.size };
        const count = Number((this.size + this.extentBytes - 1n) / this.extentBytes);
        const from = Number(offset / this.extentBytes);
        let first = from;
        while (first < count && !this.isSet(this.bitmap, first)) {
            // Most of a volume is not in doubt: eight extents at once.
            first += first % 8 === 0 && this.bitmap[first / 8] === 0 ? 8 : 1;
        }
        if (first >= count)
            return null;
        let last = first;
        while (last + 1 < count && this.isSet(this.bitmap, last + 1))
            last += 1;
        const begin = first === from ? offset : BigInt(first) * this.extentBytes;
        const end = BigInt(last + 1) * this.extentBytes;
        return { begin, end: end < this.size ? end : this.size };
    }
    isSet(bitmap, extent) {
        return ((bitmap[extent >> 3] ?? 0) & (1 << (extent & 7))) !== 0;
    }
}
//# sourceMappingURL=extent_set.js.map