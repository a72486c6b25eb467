/** The named maxima of an agent's session. The simulator hands in small ones, so that each of them is reached. */
import { strict as assert } from 'node:assert';
const MIB = 1024 * 1024;
export const SESSION_LIMITS = {
    unsentBytesMax: 8 * MIB,
    unackedBytesMax: 32 * MIB,
    lsnReserve: 1n << 24n,
    pieceBytes: MIB,
    syncWindowBytes: 16 * MIB,
    blockBytes: 64 * 1024,
    fineBlockBytes: 4096,
    hashRequestsMax: 4,
    checkpointsMax: 64,
    silenceTicksMax: 30,
    refusalsMax: 3,
};
/** Throws an AssertionError where the limits contradict each other. */
export function assertLimits(limits) {
    assert(limits.unsentBytesMax <= limits.unackedBytesMax, 'what is unsent is unacknowledged');
    assert(limits.pieceBytes % limits.blockBytes === 0, 'a piece is compared in whole blocks');
    assert(limits.blockBytes % limits.fineBlockBytes === 0, 'a block is compared again in whole ones');
    // The receiver makes the base durable every quarter of the window: a piece must fit in beside the rest.
    assert(limits.pieceBytes * 4 <= limits.syncWindowBytes, 'the sync window holds several pieces');
}
//# sourceMappingURL=session_limits.js.map