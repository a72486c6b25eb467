/**
 * Buffers for frames on their way to the journal. A frame arrives behind a tag and a length of odd size, and the journal
 * reads its tables in place, so it is copied to an aligned buffer; these are used again, since fresh memory costs more
 * than the copy.
 */
/** The largest frame (docs/FORMAT.md, "Frame header"). */
const FRAME_BYTES_MAX = 1280 * 1024;
/** Buffers kept for reuse: what is in flight when the stream is paused, at frames of 1 MiB. */
const KEPT_MAX = 24;
export class FrameBuffers {
    free = [];
    /** A copy of `frame` that begins at a multiple of 8. Give it back with release(). */
    take(frame) {
        const bytes = Math.max(FRAME_BYTES_MAX, frame.length);
        const memory = frame.length <= FRAME_BYTES_MAX ? this.free.pop() : undefined;
        const copy = Buffer.from(memory ?? Buffer.allocUnsafeSlow(bytes).buffer, 0, frame.length);
        frame.copy(copy);
        return copy;
    }
    release({ buffer }) {
        if (this.free.length < KEPT_MAX && buffer.byteLength === FRAME_BYTES_MAX)
            this.free.push(buffer);
    }
}
//# sourceMappingURL=frame_buffers.js.map