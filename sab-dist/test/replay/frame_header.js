import { crc32c } from './crc32c.js';
import { preambleFault } from './preamble.js';
import { CHUNK_ENTRY_BYTES } from './chunk.js';
import { RECORD_BYTES } from './record.js';
import { uuidAt } from './uuid.js';
export const FRAME_HEADER_BYTES = 160;
const FRAME_BYTES_MAX = 1_310_720;
const RECORDS_MAX = 4096;
const CHUNKS_MAX = 64;
const RAW_BYTES_MAX = 1_048_576;
const CODEC_LZ4_BLOCK = 1;
/** The bytes are no frame that continues its segment: the segment ends before it. */
export class InvalidFrame extends Error {
    name = 'InvalidFrame';
}
export function validIf(holds, fault) {
    if (!holds)
        throw new InvalidFrame(fault);
}
/** Parses 160 bytes; throws InvalidFrame unless they are a frame header whose fields agree with each other. */
export function parseFrameHeader(bytes) {
    const headerCrc = bytes.readUInt32LE(156);
    validIf(crc32c(bytes.subarray(0, 156)) === headerCrc, 'frame header_crc32c is wrong');
    const fault = preambleFault(bytes, 'AFTFRAME', FRAME_HEADER_BYTES);
    validIf(fault === null, `frame: ${fault ?? ''}`);
    validIf(bytes.readUInt16LE(108) === CODEC_LZ4_BLOCK, 'frame codec is not known');
    const header = {
        group: uuidAt(bytes, 16),
        member: uuidAt(bytes, 32),
        epoch: bytes.readBigUInt64LE(48),
        generation: bytes.readBigUInt64LE(56),
        firstLsn: bytes.readBigUInt64LE(64),
        lastLsn: bytes.readBigUInt64LE(72),
        firstTimeNs: bytes.readBigUInt64LE(80),
        lastTimeNs: bytes.readBigUInt64LE(88),
        era: bytes.readUInt32LE(96),
        recordCount: bytes.readUInt32LE(100),
        chunkCount: bytes.readUInt32LE(104),
        rawBytes: bytes.readUInt32LE(112),
        payloadBytes: bytes.readUInt32LE(116),
        frameBytes: bytes.readUInt32LE(120),
        link: bytes.readUInt32LE(124),
        tablesCrc: bytes.readUInt32LE(128),
        headerCrc,
    };
    const { recordCount, chunkCount, rawBytes, payloadBytes } = header;
    const unpaddedBytes = FRAME_HEADER_BYTES + RECORD_BYTES * recordCount + CHUNK_ENTRY_BYTES * chunkCount + payloadBytes;
    validIf(recordCount >= 1 && recordCount <= RECORDS_MAX, `frame of ${recordCount} records`);
    validIf(chunkCount <= CHUNKS_MAX, `frame of ${chunkCount} chunks`);
    validIf(rawBytes <= RAW_BYTES_MAX, `frame of ${rawBytes} raw bytes`);
    validIf(payloadBytes <= rawBytes, 'frame stores more bytes than its raw payload has');
    validIf(header.lastLsn === header.firstLsn + BigInt(recordCount - 1), 'frame last_lsn is wrong');
    validIf(header.frameBytes === Math.ceil(unpaddedBytes / 8) * 8, 'frame_bytes does not add up');
    validIf(header.frameBytes <= FRAME_BYTES_MAX, `frame of ${header.frameBytes} bytes`);
    return header;
}
//# sourceMappingURL=frame_header.js.map