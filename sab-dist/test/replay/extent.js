/**
 * Joins neighbours that say the same of adjacent sectors. The page does not say how finely a writer cuts extents,
 * so two lists are compared when both are as coarse as can be.
 */
export function coalesced(extents) {
    const joined = [];
    for (const extent of extents) {
        const last = joined.at(-1);
        if (last !== undefined && continues(last, extent))
            last.length += extent.length;
        else
            joined.push({ ...extent });
    }
    return joined;
}
function continues(before, { start, segment, frame, record, recordSector }) {
    const isSameRecord = segment === before.segment && frame === before.frame && record === before.record;
    const recordSectorNext = frame === 0 ? 0 : before.recordSector + before.length;
    return isSameRecord && start === before.start + before.length && recordSector === recordSectorNext;
}
export function describeExtent({ start, length, segment, frame, record, recordSector }) {
    const source = frame === 0 ? 'zero' : `frame ${frame} record ${record} sector ${recordSector}`;
    return `sectors ${start}+${length}: segment ${segment} ${source}`;
}
//# sourceMappingURL=extent.js.map