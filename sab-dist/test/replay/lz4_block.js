import { claim } from './contradiction.js';
/** Rules for the end of a block, of the LZ4 block format's section "End of block conditions". */
const LAST_LITERALS_MIN = 5;
const LAST_MATCH_TO_END_MIN = 12;
const MATCH_MIN = 4;
/** A length of 15 in a token's half is continued in the bytes that follow. */
const CONTINUED = 15;
/**
 * Decompresses one LZ4 block, byte by byte, to exactly rawBytes bytes. Throws Contradiction on anything that a
 * conforming compressor would not have written.
 */
export function decompressLz4Block(stored, rawBytes) {
    const raw = Buffer.alloc(rawBytes);
    let from = 0;
    let to = 0;
    const nextByte = () => {
        const byte = stored[from++];
        claim(byte !== undefined, 'LZ4 block ends within a sequence');
        return byte;
    };
    const lengthFrom = (half) => {
        let length = half;
        if (half !== CONTINUED)
            return length;
        for (;;) {
            const byte = nextByte();
            length += byte;
            if (byte !== 255)
                return length;
        }
    };
    for (let hasMatchBefore = false, matchStart = 0;; hasMatchBefore = true) {
        const token = nextByte();
        const literals = lengthFrom(token >>> 4);
        claim(from + literals <= stored.length, 'LZ4 block ends within literals');
        claim(to + literals <= rawBytes, 'LZ4 literals exceed the raw size');
        stored.copy(raw, to, from, from + literals);
        from += literals;
        to += literals;
        if (from === stored.length) {
            claim(to === rawBytes, 'LZ4 block decompresses to fewer bytes than the raw size');
            if (hasMatchBefore) {
                claim(literals >= LAST_LITERALS_MIN, 'LZ4 block ends with fewer than 5 literals');
                claim(rawBytes - matchStart >= LAST_MATCH_TO_END_MIN, 'last LZ4 match begins within the last 12 bytes');
            }
            return raw;
        }
        const offset = nextByte() | (nextByte() << 8);
        claim(offset > 0, 'LZ4 match has offset 0');
        claim(offset <= to, 'LZ4 match begins before the block');
        const length = lengthFrom(token & 0x0f) + MATCH_MIN;
        claim(to + length <= rawBytes, 'LZ4 match exceeds the raw size');
        matchStart = to;
        // One byte after the other: a match may overlap what it produces.
        for (const end = to + length; to < end; to++)
            raw[to] = raw[to - offset] ?? 0;
    }
}
//# sourceMappingURL=lz4_block.js.map