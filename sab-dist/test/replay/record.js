import { byteCountAt } from './byte_count.js';
import { claim } from './contradiction.js';
export const RECORD_BYTES = 32;
export const SECTOR_BYTES = 512;
/** In the order of their numbers on disk, which begin at 1. */
const KINDS = ['write', 'zero', 'flush', 'resize', 'clock', 'membership', 'void'];
const LENGTH_MAX = { write: 1_048_576, zero: 1_073_741_824 };
/** Parses one entry of a record table and checks what can be checked without its surroundings. */
export function parseRecord(entry) {
    const kindNumber = entry.readUInt8(0);
    const kind = KINDS[kindNumber - 1];
    claim(kind !== undefined, `record kind ${kindNumber} is not known`);
    const hasVolume = kind !== 'clock' && kind !== 'void';
    const hasRange = kind === 'write' || kind === 'zero';
    const hasSize = kind === 'resize' || kind === 'membership';
    const record = {
        kind,
        volume: hasVolume ? entry.readUInt16LE(2) : null,
        length: entry.readUInt32LE(4),
        offset: hasRange || hasSize ? byteCountAt(entry, 8) : 0,
        timeNs: entry.readBigUInt64LE(16),
        payloadOffset: entry.readUInt32LE(24),
    };
    claim(record.volume === null || record.volume <= 63, `volume number ${record.volume ?? 0} is above 63`);
    claim(record.length % SECTOR_BYTES === 0, `length ${record.length} is not a multiple of 512`);
    claim(record.offset % SECTOR_BYTES === 0, `offset or size ${record.offset} is not a multiple of 512`);
    if (hasRange)
        claim(record.length > 0 && record.length <= LENGTH_MAX[kind], `${kind} of ${record.length} bytes`);
    else
        claim(record.length === 0, `${kind} has a length`);
    if (kind !== 'write')
        claim(record.payloadOffset === 0, `${kind} has a payload_offset`);
    return record;
}
//# sourceMappingURL=record.js.map