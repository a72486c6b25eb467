import { higher } from '../proto/watermarks.js';
import { NOT_COVERED } from './catalog/members.js';
import { coveredTime } from './coverage.js';
import { NUMBER_MAX } from './session_limits.js';
/** The member's history as the catalog has it now: a few rows a generation, however long its journal is. */
export function readHistory(catalog, member) {
    const { segments } = catalog;
    const generations = catalog.generations.generations(member);
    const newest = generations.at(-1);
    const coverage = catalog.members.member(member)?.coverage ?? NOT_COVERED;
    const held = catalog.windows.held(member);
    return {
        generations: generations.map((row, index) => {
            const next = generations[index + 1];
            const first = segments.atOrAfter(member, row.firstLsn);
            const last = segments.atOrBefore(member, next === undefined ? NUMBER_MAX : next.firstLsn - 1n);
            const isOwn = first?.generation === row.generation && last?.generation === row.generation;
            // The oldest point stands for the records before it, whose segments are in the bases.
            const { oldestLsn, oldestTimeNs } = held;
            const holdsOldest = oldestLsn >= row.firstLsn && (next === undefined || oldestLsn < next.firstLsn);
            return {
                ...row,
                volumes: catalog.generations.volumes(member, row.generation),
                durableLsn: isOwn ? last.lastLsn : holdsOldest ? oldestLsn : row.firstLsn - 1n,
                firstTimeNs: holdsOldest ? oldestTimeNs : isOwn ? first.firstTimeNs : null,
                lastTimeNs: isOwn ? last.lastTimeNs : holdsOldest ? oldestTimeNs : null,
            };
        }),
        damage: catalog.damage.damage(member).map((row) => {
            const before = segments.atOrBefore(member, row.firstLsn - 1n);
            return { ...row, intactTimeNs: before?.lastLsn === row.firstLsn - 1n ? before.lastTimeNs : null };
        }),
        baseDamage: catalog.baseDamage.damage(member),
        coveredTimeNs: newest === undefined ? 0n : coveredTime(coverage, newest.firstLsn, catalog.eras.eras(member)),
        held,
    };
}
/** Ascending in LSN and, but for clock steps, in time. */
export function spansOf({ generations, damage, baseDamage, coveredTimeNs, held }) {
    const spans = [];
    generations.forEach((generation, index) => {
        const next = generations[index + 1] ?? null;
        const endNs = endOf(generation, next === null ? coveredTimeNs : 0n, next);
        spans.push(...baseDamage.reduce((own, row) => (row.foundGeneration < generation.generation ? own : damagedWhile(row, own)), graded(generation, endNs, damage)));
        if (generation.lastLsn === null && next === null)
            return;
        spans.push({
            grade: 'gap',
            generation: generation.generation,
            firstLsn: 0n,
            lastLsn: 0n,
            beginNs: endNs,
            endNs: next === null ? null : higher(endNs, beginOf(next)),
            reason: generation.endReason === '' ? (next?.reason ?? '') : generation.endReason,
        });
    });
    return heldSpans(spans, held);
}
/** `spans` from the oldest point on, with which the first one then begins. */
function heldSpans(spans, { oldestLsn, oldestTimeNs }) {
    const index = spans.findIndex(({ grade, firstLsn, lastLsn }) => grade !== 'gap' && firstLsn <= oldestLsn && oldestLsn <= lastLsn);
    const span = spans[index];
    if (oldestLsn === 0n || span === undefined)
        return spans;
    const beginNs = higher(span.beginNs, oldestTimeNs);
    const endNs = span.endNs === null ? null : higher(span.endNs, beginNs);
    return [{ ...span, firstLsn: oldestLsn, beginNs, endNs }, ...spans.slice(index + 1)];
}
/** The spans of one generation, without the gap behind it. */
function graded(generation, endNs, damage) {
    const { firstLsn, reason } = generation;
    const lastLsn = higher(generation.durableLsn, generation.lastLsn ?? 0n);
    const beginNs = beginOf(generation);
    const ordered = orderedFrom(generation);
    const spans = [];
    const span = (grade, from, to, begin, end, why) => spans.push({
        grade,
        generation: generation.generation,
        firstLsn: from,
        lastLsn: to,
        beginNs: begin,
        endNs: end,
        reason: why,
    });
    if (ordered === null) {
        const isLasting = generation.lastLsn === null;
        span('syncing', firstLsn, lastLsn, beginNs, isLasting ? null : endNs, reason);
    }
    else {
        const orderedNs = ordered.lsn > firstLsn ? higher(beginNs, ordered.timeNs) : beginNs;
        if (ordered.lsn > firstLsn)
            span('syncing', firstLsn, ordered.lsn - 1n, beginNs, orderedNs, reason);
        const from = higher(firstLsn, ordered.lsn);
        span('ordered', from, lastLsn, orderedNs, higher(orderedNs, endNs), '');
    }
    const hurt = damage.find((row) => row.foundGeneration >= generation.generation && row.firstLsn <= higher(lastLsn, firstLsn));
    return hurt === undefined ? spans : damagedFrom(hurt, spans);
}
/** `spans` with everything from the hole on damaged. */
function damagedFrom({ firstLsn, intactTimeNs, reason }, spans) {
    return spans.flatMap((span) => {
        if (span.firstLsn >= firstLsn)
            return [{ ...span, grade: 'damaged', reason }];
        if (span.lastLsn < firstLsn)
            return [span];
        const cutNs = higher(span.beginNs, intactTimeNs ?? 0n);
        return [
            { ...span, lastLsn: firstLsn - 1n, endNs: cutNs },
            { ...span, grade: 'damaged', firstLsn, beginNs: cutNs, reason },
        ];
    });
}
/** `spans` with everything damaged that needs a damaged block of a base. */
function damagedWhile({ firstLsn, lastLsn, lastTimeNs, reason }, spans) {
    return spans.flatMap((span) => {
        const isBefore = higher(span.firstLsn, span.lastLsn) < firstLsn;
        const isBehind = lastLsn !== null && span.firstLsn > lastLsn;
        if (isBefore || isBehind)
            return [span];
        const hurt = { ...span, grade: 'damaged', reason };
        if (lastLsn === null || span.lastLsn <= lastLsn)
            return [hurt];
        const cutNs = higher(span.beginNs, lastTimeNs ?? 0n);
        return [
            { ...hurt, lastLsn, endNs: cutNs },
            { ...span, firstLsn: lastLsn + 1n, beginNs: cutNs },
        ];
    });
}
/** Where and when all volumes of the generation have become consistent, or null. */
function orderedFrom({ volumes }) {
    let lsn = 0n;
    let timeNs = 0n;
    for (const volume of volumes) {
        if (volume.orderedLsn === null || volume.orderedTimeNs === null)
            return null;
        lsn = higher(lsn, volume.orderedLsn);
        timeNs = higher(timeNs, volume.orderedTimeNs);
    }
    return { lsn, timeNs };
}
/** A generation that became consistent before its first record begins then, else with that record. */
function beginOf(generation) {
    const { firstLsn, firstTimeNs, beginNs } = generation;
    const ordered = orderedFrom(generation);
    if (ordered === null || ordered.lsn > firstLsn || ordered.timeNs === 0n)
        return firstTimeNs ?? beginNs;
    return firstTimeNs !== null && firstTimeNs < ordered.timeNs ? firstTimeNs : ordered.timeNs;
}
function endOf(generation, coveredTimeNs, next) {
    const begin = beginOf(generation);
    const last = higher(begin, generation.lastTimeNs ?? 0n);
    const end = higher(last, generation.endNs ?? coveredTimeNs);
    // The clock was set back: what it showed before the next generation began says nothing of the time in between.
    return next !== null && beginOf(next) < end ? last : end;
}
//# sourceMappingURL=timeline.js.map