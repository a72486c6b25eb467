/** Null: it goes on after the receiver's durable LSN. Else the reason of the generation to come. */
export function endOfContinuity(stream, 
/** The receiver acknowledged up to here; the ring holds nothing before. */
durableLsn, 
/** The highest LSN of the generation that was ever sent. */
shippedLsnMax, welcome) {
    if (stream.state === 'none')
        return welcome.generation === 0n ? 'NEW' : 'AGENT_RESTARTED';
    if (stream.state === 'abandoned')
        return stream.reason;
    if (welcome.generation !== stream.generation) {
        return stream.state === 'ended' ? stream.reason : 'GENERATION_UNKNOWN';
    }
    // Less than was acknowledged: the receiver was set back. More than was ever sent: this agent was.
    if (welcome.durableLsn < durableLsn || welcome.durableLsn > shippedLsnMax)
        return 'WATERMARK_INVALID';
    // The receiver ended it by itself, after damage to its journal: it would refuse all that follows.
    const isEndKnown = stream.state === 'ended' && stream.lastLsn === welcome.durableLsn;
    if (welcome.ended && !isEndKnown)
        return stream.state === 'ended' ? stream.reason : 'GENERATION_UNKNOWN';
    return null;
}
//# sourceMappingURL=resumption.js.map