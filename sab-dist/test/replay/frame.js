import { CHUNK_ENTRY_BYTES, checkChunkCuts, decompressChunk, isChunkIntact, parseChunkTable, } from './chunk.js';
import { claim } from './contradiction.js';
import { crc32c } from './crc32c.js';
import { FRAME_HEADER_BYTES, parseFrameHeader, validIf } from './frame_header.js';
import { parseRecord, RECORD_BYTES } from './record.js';
import { areZero } from './zeroes.js';
/**
 * Reads the frame at position with every check of the page. Throws InvalidFrame if it does not continue the
 * segment, and Contradiction if its checksums are right and yet its tables are not what a writer may write: no
 * torn write leaves that behind.
 */
export function readFrame(segment, position, continuation) {
    const header = parseFrameHeader(segment.subarray(position, position + FRAME_HEADER_BYTES));
    validIf(position + header.frameBytes <= segment.length, 'frame lies beyond the end of the file');
    validIf(header.group === continuation.group, 'frame is of another group');
    validIf(header.member === continuation.member, 'frame is of another member');
    validIf(header.generation === continuation.generation, 'frame is of another generation');
    validIf(header.epoch >= continuation.epoch, 'frame has an epoch below the one before');
    validIf(header.firstLsn === continuation.nextLsn, 'frame first_lsn is not the next LSN');
    validIf(header.link === continuation.link, 'frame link is not the CRC of the frame before');
    const bytes = segment.subarray(position, position + header.frameBytes);
    const recordsEnd = FRAME_HEADER_BYTES + RECORD_BYTES * header.recordCount;
    const tablesEnd = recordsEnd + CHUNK_ENTRY_BYTES * header.chunkCount;
    const payloadEnd = tablesEnd + header.payloadBytes;
    validIf(crc32c(bytes.subarray(FRAME_HEADER_BYTES, tablesEnd)) === header.tablesCrc, 'tables_crc32c is wrong');
    const chunks = parseChunkTable(bytes.subarray(recordsEnd, tablesEnd), header.rawBytes, header.payloadBytes);
    const stored = bytes.subarray(tablesEnd, payloadEnd);
    for (const chunk of chunks)
        validIf(isChunkIntact(chunk, stored), 'chunk crc32c is wrong');
    validIf(areZero(bytes.subarray(payloadEnd)), 'padding is not zero');
    const records = [];
    for (let at = FRAME_HEADER_BYTES; at < recordsEnd; at += RECORD_BYTES)
        records.push(parseRecord(bytes.subarray(at, at + RECORD_BYTES)));
    checkRecords(records, header);
    checkChunkCuts(chunks, records);
    const readPayload = () => Buffer.concat(chunks.map((chunk) => decompressChunk(chunk, stored)));
    return { header, position, records, readPayload };
}
/** What a record table must be as a whole: times, payload offsets, and where a clock record may stand. */
function checkRecords(records, header) {
    let payloadEnd = 0;
    let timeBefore = null;
    records.forEach((record, index) => {
        claim(timeBefore === null || record.timeNs > timeBefore, 'record time does not rise');
        timeBefore = record.timeNs;
        claim(record.kind !== 'clock' || index === 0, 'clock record is not the first of its frame');
        if (record.kind !== 'write')
            return;
        claim(record.payloadOffset === payloadEnd, 'payload_offset is not the end of the write before');
        payloadEnd += record.length;
    });
    claim(payloadEnd === header.rawBytes, 'writes do not end at raw_bytes');
    claim(records[0]?.timeNs === header.firstTimeNs, 'first_time_ns is not the time of record 0');
    claim(records.at(-1)?.timeNs === header.lastTimeNs, 'last_time_ns is not the time of the last record');
}
//# sourceMappingURL=frame.js.map