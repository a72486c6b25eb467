export const UNKNOWN_LOG = { logId: 0n, sequence: 0n, whole: true };
/** After a Hello: `claim` is what it said of the volume, `durableLsn` where the journal ends. */
export function logAtHello(known, claim, durableLsn) {
    if (claim === undefined || claim.id === 0n)
        return UNKNOWN_LOG;
    const { id, sequence, basisLsn } = claim;
    // Fewer changes than were told of: a copy of the agent's state, older than its backing or the journal.
    const isSuccessor = id === known.logId && sequence >= known.sequence;
    return { logId: id, sequence, whole: known.whole || !isSuccessor || basisLsn > durableLsn };
}
/** After a heartbeat. */
export function logAtHeartbeat(known, { id, sequence }) {
    if (id === 0n)
        return UNKNOWN_LOG;
    const isSuccessor = id === known.logId && sequence >= known.sequence;
    return { logId: id, sequence, whole: known.whole || !isSuccessor };
}
//# sourceMappingURL=log_claims.js.map