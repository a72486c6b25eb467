import { segmentEras } from '../journal/segment_eras.js';
import { finding } from './finding.js';
/** Errors: IO_ERROR. */
export async function checkEras(catalog, { uuid }, place, segments) {
    const rows = new Map(catalog.eras.eras(uuid).map((row) => [row.era, row]));
    const newest = [...rows.values()].reduce((last, { firstLsn }) => (firstLsn > last ? firstLsn : last), 0n);
    const checked = { findings: [], missing: [] };
    for (const { row, isExact, file } of await begunEras(uuid, segments)) {
        const known = rows.get(row.era);
        const what = `era ${row.era} begins with LSN ${row.firstLsn}`;
        if (known === undefined) {
            checked.missing.push(row);
            // As after a crash, when it lies at the end: the next start takes it over.
            const code = row.firstLsn > newest ? 'CATALOG_BEHIND' : 'ERA_MISSING';
            checked.findings.push(finding(code, place, file, `${what}, which the catalog does not know`));
        }
        else if (isExact && (known.firstLsn !== row.firstLsn || known.firstTimeNs !== row.firstTimeNs)) {
            const text = `${what}, in the catalog with ${known.firstLsn}`;
            checked.findings.push(finding('ERA_WRONG', place, file, text));
        }
    }
    return checked;
}
async function begunEras(member, segments) {
    const begun = [];
    let before = null;
    for (const segment of segments) {
        const isNew = before === null || before.lastEra !== segment.firstEra;
        if (isNew || segment.firstEra !== segment.lastEra) {
            for (const { first, previousTimeNs } of await segmentEras(segment)) {
                const isOfBefore = previousTimeNs === null;
                if (isOfBefore && !isNew)
                    continue;
                const { era, firstLsn, firstTimeNs } = first;
                begun.push({
                    row: {
                        ...{ member, era, firstLsn, firstTimeNs },
                        previousTimeNs: previousTimeNs ?? before?.lastTimeNs ?? 0n,
                    },
                    isExact: !isOfBefore || (before !== null && before.lastLsn + 1n === segment.firstLsn),
                    file: segment.path,
                });
            }
        }
        before = segment;
    }
    return begun;
}
/** Checkpoints of the member. */
export function checkCheckpoints(catalog, { uuid, group }, place, segments, catalogFile) {
    const { oldestLsn } = catalog.windows.held(uuid);
    return catalog.checkpoints.checkpoints(group).flatMap(({ name, member, lsn }) => {
        // A generation without a record stands just before its first LSN.
        const isThere = segments.some(({ firstLsn, lastLsn }) => firstLsn - 1n <= lsn && lsn <= lastLsn);
        // The oldest point that is held may be in the bases, and in no segment.
        if (member !== uuid || isThere || lsn === oldestLsn)
            return [];
        return [finding('CHECKPOINT_OUTSIDE', place, catalogFile, `checkpoint ${name} at LSN ${lsn}`)];
    });
}
//# sourceMappingURL=history_check.js.map