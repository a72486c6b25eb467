const MIB = 1024 * 1024;
export const SESSION_LIMITS = {
    baseSyncBytes: 4 * MIB,
    appendBytesMax: 64 * MIB,
    hashRequestsMax: 16,
    hashBytesMax: 4 * MIB,
    hashBlockBytesMin: 4096,
    pieceBytesMax: MIB,
    piecesMax: 64,
    checkpointsMax: 64,
};
export const VOLUMES_MAX = 64;
/** The largest LSN, time or other number that is taken from a peer: the catalog's integers are signed. */
export const NUMBER_MAX = 2n ** 63n - 1n;
//# sourceMappingURL=session_limits.js.map