import { claim } from './contradiction.js';
/** A u64 that counts bytes, as a number. Refuses what a double cannot hold exactly: no volume is that large. */
export function byteCountAt(bytes, offset) {
    const value = bytes.readBigUInt64LE(offset);
    claim(value <= BigInt(Number.MAX_SAFE_INTEGER), `${String(value)} bytes are more than a volume or file can have`);
    return Number(value);
}
//# sourceMappingURL=byte_count.js.map