/** What the session needs of a frame's header. Layout: docs/FORMAT.md, "Frame". The journal checks all the rest. */
import { AfterimageError } from './errors.js';
/** Bytes of the fixed header. */
export const FRAME_HEADER_BYTES = 160;
/**
 * Reads the header without checking it: the CRC over it is verified where the frame is appended. Errors:
 * FRAME_TRUNCATED when there is not even a header.
 */
export function readFrameHeader(frame) {
    if (frame.length < FRAME_HEADER_BYTES) {
        throw new AfterimageError('FRAME_TRUNCATED', `a frame of ${frame.length} bytes has no whole header`);
    }
    return {
        epoch: frame.readBigUInt64LE(48),
        generation: frame.readBigUInt64LE(56),
        firstLsn: frame.readBigUInt64LE(64),
        lastLsn: frame.readBigUInt64LE(72),
        link: frame.readUInt32LE(124),
        headerCrc: frame.readUInt32LE(156),
        bytes: frame.length,
    };
}
//# sourceMappingURL=frame_header.js.map