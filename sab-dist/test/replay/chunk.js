import { claim } from './contradiction.js';
import { crc32c } from './crc32c.js';
import { decompressLz4Block } from './lz4_block.js';
export const CHUNK_ENTRY_BYTES = 16;
const CHUNK_RAW_BYTES_MAX = 65_536;
const STORED_RAW_BIT = 0x8000_0000;
/** Parses a chunk table; throws Contradiction unless its chunks cover both payloads exactly. */
export function parseChunkTable(table, rawBytes, payloadBytes) {
    const chunks = [];
    let storedEnd = 0;
    for (let at = 0; at < table.length; at += CHUNK_ENTRY_BYTES) {
        const rawOffset = table.readUInt32LE(at);
        const isLast = at + CHUNK_ENTRY_BYTES === table.length;
        const rawEnd = isLast ? rawBytes : table.readUInt32LE(at + CHUNK_ENTRY_BYTES);
        const sizeWord = table.readUInt32LE(at + 8);
        const chunk = {
            rawOffset,
            rawBytes: rawEnd - rawOffset,
            storedOffset: table.readUInt32LE(at + 4),
            storedBytes: sizeWord % STORED_RAW_BIT,
            isStoredRaw: sizeWord >= STORED_RAW_BIT,
            crc: table.readUInt32LE(at + 12),
        };
        claim(at > 0 || rawOffset === 0, 'chunk 0 does not begin at raw offset 0');
        claim(chunk.rawBytes >= 1 && chunk.rawBytes <= CHUNK_RAW_BYTES_MAX, `chunk of ${chunk.rawBytes} raw bytes`);
        claim(chunk.storedOffset === storedEnd, 'chunk is not stored right behind the one before');
        claim(chunk.isStoredRaw ? chunk.storedBytes === chunk.rawBytes : chunk.storedBytes < chunk.rawBytes, `chunk of ${chunk.rawBytes} raw bytes is stored in ${chunk.storedBytes}`);
        storedEnd += chunk.storedBytes;
        chunks.push(chunk);
    }
    claim(storedEnd === payloadBytes, 'chunks do not end at payload_bytes');
    claim(chunks.length > 0 || rawBytes === 0, 'a payload without chunks');
    return chunks;
}
export function storedBytesOf(chunk, payload) {
    return payload.subarray(chunk.storedOffset, chunk.storedOffset + chunk.storedBytes);
}
export function isChunkIntact(chunk, payload) {
    return crc32c(storedBytesOf(chunk, payload)) === chunk.crc;
}
export function decompressChunk(chunk, payload) {
    const stored = storedBytesOf(chunk, payload);
    return chunk.isStoredRaw ? stored : decompressLz4Block(stored, chunk.rawBytes);
}
/**
 * Checks where the chunks are cut: only where records begin, and every 64 KiB within longer records. That those
 * fill their chunks follows, as no chunk is larger.
 */
export function checkChunkCuts(chunks, records) {
    const cuts = new Set();
    for (const { kind, payloadOffset, length } of records) {
        if (kind !== 'write')
            continue;
        for (let cut = 0; cut < length; cut += CHUNK_RAW_BYTES_MAX)
            cuts.add(payloadOffset + cut);
    }
    for (const { rawOffset } of chunks)
        claim(cuts.has(rawOffset), `chunk is cut at ${rawOffset}, within a record`);
}
//# sourceMappingURL=chunk.js.map