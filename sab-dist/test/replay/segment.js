import { claim } from './contradiction.js';
import { readFrame } from './frame.js';
import { FRAME_HEADER_BYTES, InvalidFrame } from './frame_header.js';
import { parseSegmentHeader, SEGMENT_HEADER_BYTES } from './segment_header.js';
import { areZero } from './zeroes.js';
const SEGMENT_BYTES_MAX = 67_108_864;
/** Of the preallocated size, always left unused: by it a reader tells a sealed segment from an open one. */
const UNUSED_BYTES_MIN = 8;
/**
 * Reads a whole segment. before is the end of the segment before it, if that is known: epochs never fall within
 * a generation. Whether the end of the frames is an end or damage is for the caller to judge: see Segment.fault.
 */
export function readSegment(file, before) {
    claim(file.length <= SEGMENT_BYTES_MAX, 'segment is larger than 64 MiB');
    const header = parseSegmentHeader(file);
    const end = {
        group: header.group,
        member: header.member,
        generation: header.generation,
        epoch: before?.generation === header.generation ? before.epoch : 0n,
        nextLsn: header.firstLsn,
        link: header.link,
    };
    const frames = [];
    let position = SEGMENT_HEADER_BYTES;
    let fault = null;
    while (!isEnd(file, position)) {
        let frame;
        try {
            frame = readFrame(file, position, end);
        }
        catch (error) {
            if (!(error instanceof InvalidFrame))
                throw error;
            fault = error.message;
            break;
        }
        checkVolumes(frame, header);
        frames.push(frame);
        position += frame.header.frameBytes;
        end.epoch = frame.header.epoch;
        end.nextLsn = frame.header.lastLsn + 1n;
        end.link = frame.header.headerCrc;
    }
    if (fault === null && !areZero(file.subarray(position)))
        fault = 'bytes behind the end are not zero';
    claim(position <= SEGMENT_BYTES_MAX - UNUSED_BYTES_MIN, 'segment leaves fewer than 8 bytes unused');
    return { header, frames, fileBytes: file.length, isSealed: position === file.length, fault, end };
}
function isEnd(file, position) {
    const next = file.subarray(position, position + FRAME_HEADER_BYTES);
    return next.length < FRAME_HEADER_BYTES || areZero(next);
}
function checkVolumes(frame, header) {
    const numbers = new Set(header.volumes.map(({ number }) => number));
    for (const { kind, volume } of frame.records)
        claim(volume === null || numbers.has(volume), `${kind} is of volume ${volume ?? 0}, which the segment lacks`);
}
//# sourceMappingURL=segment.js.map