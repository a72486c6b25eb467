const POLYNOMIAL_REFLECTED = 0x82f63b78;
const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit++)
        remainder = (remainder >>> 1) ^ (remainder & 1 ? POLYNOMIAL_REFLECTED : 0);
    return remainder;
});
/** CRC-32C (Castagnoli) as in RFC 3720, appendix B.4: an unsigned 32-bit number. */
export function crc32c(bytes) {
    let crc = 0xffffffff;
    // By index: the iterator of a Uint8Array is several times slower, and segments have 64 MiB.
    for (let at = 0; at < bytes.length; at++)
        crc = (crc >>> 8) ^ (REMAINDERS[(crc ^ (bytes[at] ?? 0)) & 0xff] ?? 0);
    return (crc ^ 0xffffffff) >>> 0;
}
//# sourceMappingURL=crc32c.js.map