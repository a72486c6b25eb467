/** `ranges` less what `segments` (ascending) hold, ascending, neighbours joined. `reasons`: by a segment's first LSN. */
export function holesBetween(ranges, segments, reasons) {
    const holes = [];
    const miss = (firstLsn, lastLsn) => {
        const last = holes.at(-1);
        if (last !== undefined && firstLsn <= last.lastLsn + 1n)
            last.lastLsn = lastLsn;
        else
            holes.push({ firstLsn, lastLsn, reason: reasonAt(firstLsn, reasons) });
    };
    let at = 0;
    for (const range of joined(ranges)) {
        let next = range.firstLsn;
        for (let segment = segments[at]; segment !== undefined; at += 1, segment = segments[at]) {
            if (segment.firstLsn > range.lastLsn)
                break;
            if (segment.lastLsn < next)
                continue;
            if (segment.firstLsn > next)
                miss(next, segment.firstLsn - 1n);
            next = segment.lastLsn + 1n;
            // It may reach into the next range.
            if (next > range.lastLsn)
                break;
        }
        if (next <= range.lastLsn)
            miss(next, range.lastLsn);
    }
    return holes;
}
/** The parts of a hole that `known` (ascending) does not name. */
export function unknownParts({ firstLsn, lastLsn, reason }, known) {
    const parts = [];
    let next = firstLsn;
    for (const row of known) {
        if (row.lastLsn < next)
            continue;
        if (row.firstLsn > lastLsn)
            break;
        if (row.firstLsn > next)
            parts.push({ firstLsn: next, lastLsn: row.firstLsn - 1n, reason });
        next = row.lastLsn + 1n;
    }
    if (next <= lastLsn)
        parts.push({ firstLsn: next, lastLsn, reason });
    return parts;
}
/** Ascending, without overlaps. */
function joined(ranges) {
    const ascending = [...ranges].sort((left, right) => (left.firstLsn < right.firstLsn ? -1 : 1));
    const union = [];
    for (const { firstLsn, lastLsn } of ascending) {
        const last = union.at(-1);
        if (last === undefined || firstLsn > last.lastLsn + 1n)
            union.push({ firstLsn, lastLsn });
        else if (lastLsn > last.lastLsn)
            last.lastLsn = lastLsn;
    }
    return union;
}
/** What the scan said of the segment in which the hole begins. */
function reasonAt(lsn, reasons) {
    let reason = 'a segment is missing';
    for (const [firstLsn, text] of reasons)
        if (firstLsn <= lsn)
            reason = text;
    return reason;
}
//# sourceMappingURL=holes.js.map