/** The time eras of a segment, by its frames' headers: where the catalog fell behind, it learns of them here. */
import { open } from 'node:fs/promises';
import { FRAME_HEADER_BYTES } from '../../proto/frame_header.js';
import { readFrameTimes } from './frame_times.js';
const SEGMENT_HEADER_BYTES = 4096;
/** Where an era begins in the segment, in order; the one that its first frame belongs to comes first. */
export async function segmentEras({ path, bytes }) {
    const eras = [];
    const file = await open(path, 'r');
    try {
        const header = Buffer.alloc(FRAME_HEADER_BYTES);
        let last = null;
        for (let at = SEGMENT_HEADER_BYTES; at < Number(bytes);) {
            const { bytesRead } = await file.read(header, 0, FRAME_HEADER_BYTES, at);
            const times = readFrameTimes(header.subarray(0, bytesRead));
            if (times.era !== last?.era)
                eras.push({ first: times, previousTimeNs: last?.lastTimeNs ?? null });
            last = times;
            at += times.frameBytes;
        }
    }
    finally {
        await file.close();
    }
    return eras;
}
//# sourceMappingURL=segment_eras.js.map