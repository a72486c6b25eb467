import { coveredTime } from '../coverage.js';
import { unknownParts } from './holes.js';
import { higher } from '../../proto/watermarks.js';
/**
 * Records what of `holes` (ascending) is new, and ends the present generation, so that the next one is compared anew.
 * Whether anything was new. Belongs into a transaction.
 */
export function recordDamage({ catalog, log }, uuid, holes, end) {
    const member = catalog.members.member(uuid);
    const newest = catalog.generations.newest(uuid);
    const known = catalog.damage.damage(uuid);
    const found = holes.flatMap((hole) => unknownParts(hole, known));
    if (member === null || newest === null || found.length === 0)
        return false;
    for (const { firstLsn, lastLsn, reason } of found) {
        log.error({ code: 'SEGMENT_CORRUPT', member: uuid, firstLsn, lastLsn, reason }, 'acknowledged records are missing from the journal: instants from there on are graded damaged');
        catalog.damage.add({ member: uuid, firstLsn, lastLsn, foundGeneration: newest.generation, reason });
    }
    endDamaged(catalog, uuid, { ...end, lastLsn: higher(end.lastLsn, found.at(-1)?.lastLsn ?? 0n) }, 'SEGMENT_CORRUPT');
    return true;
}
/** Ends the present generation, if it lasts, so that the next one is compared anew. Belongs into a transaction. */
export function endDamaged(catalog, uuid, end, reason) {
    const member = catalog.members.member(uuid);
    const newest = catalog.generations.newest(uuid);
    if (member === null || newest === null)
        return;
    // What was unmarked at the agent because the receiver has it is not equal any more.
    catalog.doubts.raise(uuid);
    const lastLsn = [
        end.lastLsn,
        member.ackedLsn,
        // It may have no record yet.
        newest.firstLsn - 1n,
    ].reduce(higher);
    const coveredNs = coveredTime(member.coverage, newest.firstLsn, catalog.eras.eras(uuid));
    const endNs = higher(end.lastTimeNs, coveredNs);
    catalog.generations.end(uuid, newest.generation, lastLsn, endNs, reason);
}
//# sourceMappingURL=damage_record.js.map