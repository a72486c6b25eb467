import { NUMBER_MAX } from '../session_limits.js';
import { readHistory, spansOf } from '../timeline.js';
/**
 * The lowest of all bounds:
 * - what is open or being copied out;
 * - checkpoints that are pinned: `pins` are those of other members, at whose instants this one has to be had too;
 * - the newest ordered point: whatever the window says, a group that is not protected any more keeps its last one;
 * - while the newest generation is not ordered, the end of the one before: a resync compares with that;
 * - an initial sync writes the base itself: nothing moves it meanwhile.
 */
export function rollLimit({ catalog, access }, row, pins) {
    const newest = catalog.generations.newest(row.uuid);
    if (newest === null)
        return { lsn: 0n, who: 'nothing was received yet' };
    const bounds = [...pins];
    const reader = access.oldest(row.uuid);
    if (reader !== null)
        bounds.push(reader);
    for (const { name, member, lsn } of catalog.checkpoints.pinned(row.group)) {
        if (member === row.uuid)
            bounds.push({ lsn, who: `the pinned checkpoint ${name}` });
    }
    const present = catalog.generations.volumes(row.uuid, newest.generation);
    for (const { number, name, baseState } of catalog.volumes.volumes(row.uuid)) {
        if (baseState === 'BASE_COMPLETE' || !present.some((volume) => volume.number === number))
            continue;
        bounds.push({ lsn: 0n, who: `the initial sync of ${name}` });
    }
    const ordered = spansOf(readHistory(catalog, row.uuid)).findLast(({ grade }) => grade === 'ordered');
    if (ordered !== undefined)
        bounds.push({ lsn: ordered.lastLsn, who: 'the last ordered point' });
    if (ordered?.generation !== newest.generation) {
        bounds.push({ lsn: newest.firstLsn - 1n, who: 'a generation that is not synced' });
    }
    return bounds.reduce((lowest, bound) => (bound.lsn < lowest.lsn ? bound : lowest), {
        lsn: NUMBER_MAX,
        who: '',
    });
}
//# sourceMappingURL=limit.js.map