/** How far the records of one generation have come, in LSNs. Held by both session machines. */
import { strict as assert } from 'node:assert';
/** Throws an AssertionError: a defect of this program, never the fault of a peer. */
export function assertWatermarks(marks) {
    const { applied, durable, received, shipped, captured } = marks;
    assert(applied <= durable && durable <= received && received <= shipped && shipped <= captured, `watermarks out of order: applied ${applied}, durable ${durable}, received ${received}, shipped ${shipped}, captured ${captured}`);
}
/** The higher of two positions, or the later of two times. */
export function higher(a, b) {
    return a > b ? a : b;
}
/** All marks at one LSN: where a stream begins, or goes on. */
export function watermarksAt(lsn) {
    return { applied: lsn, durable: lsn, received: lsn, shipped: lsn, captured: lsn };
}
//# sourceMappingURL=watermarks.js.map