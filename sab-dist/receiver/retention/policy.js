/** `nowNs`: the running time. */
export function planRetention(candidates, nowNs, room) {
    const last = new Map();
    const heldBy = new Map();
    const bytes = new Map();
    for (const { group, bytes: own } of candidates)
        bytes.set(group, (bytes.get(group) ?? 0n) + own);
    let { shortBytes } = room;
    let growBytes = 0n;
    const open = candidates.map((candidate) => ({ candidate, next: 0 }));
    for (let queue = oldest(open); queue !== null; queue = oldest(open)) {
        const { candidate, next } = queue;
        const { member, group, settings, limit } = candidate;
        const segment = candidate.segments[next];
        if (segment === undefined || segment.agedFromNs === null)
            break;
        const ageNs = nowNs - segment.agedFromNs;
        const groupBytes = bytes.get(group) ?? 0n;
        const isBeyond = settings.bytesMax !== null && groupBytes > settings.bytesMax;
        const isWanted = ageNs >= settings.windowNs || (ageNs >= settings.floorNs && (isBeyond || shortBytes > 0n));
        const isHeld = segment.lastLsn > limit.lsn;
        if (isWanted && isHeld)
            heldBy.set(member, limit.who);
        else if (!isWanted && (isBeyond || shortBytes > 0n))
            heldBy.set(member, 'the floor');
        if (!isWanted || isHeld) {
            open.splice(open.indexOf(queue), 1);
            continue;
        }
        growBytes += segment.rawBytes;
        if (last.size > 0 && growBytes > room.growBytesMax)
            break;
        last.set(member, segment);
        queue.next += 1;
        bytes.set(group, groupBytes - segment.bytes);
        shortBytes = shortBytes > segment.bytes ? shortBytes - segment.bytes : 0n;
    }
    return { last, heldBy, shortBytes };
}
/** The member whose next segment is the oldest, or null. */
function oldest(open) {
    let found = null;
    let foundNs = null;
    for (const queue of open) {
        const agedFromNs = queue.candidate.segments[queue.next]?.agedFromNs ?? null;
        if (agedFromNs === null || (foundNs !== null && agedFromNs >= foundNs))
            continue;
        found = queue;
        foundNs = agedFromNs;
    }
    return found;
}
//# sourceMappingURL=policy.js.map