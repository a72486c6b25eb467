import { byteCountAt } from './byte_count.js';
import { claim } from './contradiction.js';
import { crc32c } from './crc32c.js';
import { preambleFault } from './preamble.js';
import { SECTOR_BYTES } from './record.js';
import { uuidAt } from './uuid.js';
import { areZero } from './zeroes.js';
export const SEGMENT_HEADER_BYTES = 4096;
const VOLUMES_OFFSET = 96;
const VOLUMES_END = 2144;
const VOLUMES_MAX = 64;
const VOLUME_ENTRY_BYTES = 32;
/** Parses and checks the header of a segment; throws Contradiction: the segment is damaged. */
export function parseSegmentHeader(file) {
    claim(file.length >= SEGMENT_HEADER_BYTES, 'segment is shorter than its header');
    const bytes = file.subarray(0, SEGMENT_HEADER_BYTES);
    const fault = preambleFault(bytes, 'AFTSEGMT', SEGMENT_HEADER_BYTES);
    claim(fault === null, `segment: ${fault ?? ''}`);
    claim(crc32c(bytes.subarray(0, 4092)) === bytes.readUInt32LE(4092), 'segment header_crc32c is wrong');
    const volumeCount = bytes.readUInt32LE(68);
    claim(volumeCount >= 1 && volumeCount <= VOLUMES_MAX, `segment of ${volumeCount} volumes`);
    const volumes = [];
    for (let index = 0; index < volumeCount; index++)
        volumes.push(parseVolumeEntry(bytes, VOLUMES_OFFSET + VOLUME_ENTRY_BYTES * index));
    claim(new Set(volumes.map(({ number }) => number)).size === volumeCount, 'volume numbers are not distinct');
    const unused = bytes.subarray(VOLUMES_OFFSET + VOLUME_ENTRY_BYTES * volumeCount, VOLUMES_END);
    claim(areZero(unused), 'unused volume entries are not zero');
    const firstLsn = bytes.readBigUInt64LE(56);
    claim(firstLsn >= 1n, 'segment begins before LSN 1');
    return {
        group: uuidAt(bytes, 16),
        member: uuidAt(bytes, 32),
        generation: bytes.readBigUInt64LE(48),
        firstLsn,
        link: bytes.readUInt32LE(64),
        volumes,
    };
}
function parseVolumeEntry(bytes, at) {
    const number = bytes.readUInt16LE(at);
    const blockSize = bytes.readUInt32LE(at + 4);
    const size = byteCountAt(bytes, at + 24);
    claim(number <= 63, `volume number ${number} is above 63`);
    claim(blockSize === 512 || blockSize === 4096, `volume ${number} has block_size ${blockSize}`);
    claim(size % SECTOR_BYTES === 0, `volume ${number} has a size that is not a multiple of 512`);
    return { number, uuid: uuidAt(bytes, at + 8), size };
}
//# sourceMappingURL=segment_header.js.map