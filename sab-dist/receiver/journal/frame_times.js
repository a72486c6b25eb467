/** What the timeline needs of a frame's header. Layout: docs/FORMAT.md, "Frame header". The journal checks the rest. */
import { FRAME_HEADER_BYTES } from '../../proto/frame_header.js';
import { AfterimageError } from '../../proto/errors.js';
/** Errors: FRAME_TRUNCATED when there is not even a header. */
export function readFrameTimes(frame) {
    if (frame.length < FRAME_HEADER_BYTES) {
        throw new AfterimageError('FRAME_TRUNCATED', `a frame of ${frame.length} bytes has no whole header`);
    }
    return {
        firstLsn: frame.readBigUInt64LE(64),
        lastLsn: frame.readBigUInt64LE(72),
        firstTimeNs: frame.readBigUInt64LE(80),
        lastTimeNs: frame.readBigUInt64LE(88),
        era: frame.readUInt32LE(96),
        frameBytes: frame.readUInt32LE(120),
    };
}
//# sourceMappingURL=frame_times.js.map