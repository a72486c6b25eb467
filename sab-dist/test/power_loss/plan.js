/** Which moments of a record are looked at: around every kind of sync, the rare ones all, of the frequent ones a share. */
import path from 'node:path';
import { SAMPLE_KINDS } from './sampler.js';
/** Distinct syncs, at least. */
export const POINTS_MIN = 500;
const STATES_PER_SYNC = 3;
/** Of one kind of sync, so many are taken before the share of the frequent ones decides. */
const RARE_MAX = 40;
/** `count` states around at least `pointsMin` syncs, where there are so many, ascending in moment. */
export function planStates(operations, count, pointsMin, random) {
    const syncs = operations.filter(({ kind, error }) => (kind === 'sync' || kind === 'syncdir') && error === 0);
    const chosen = chooseSyncs(syncs, Math.max(pointsMin, Math.ceil(count / STATES_PER_SYNC)), random);
    if (chosen.length === 0)
        return [];
    const planned = Array.from({ length: count }, (_, index) => {
        const sync = chosen[index % chosen.length];
        const round = Math.floor(index / chosen.length);
        // By turns each kind meets each sync.
        const kind = SAMPLE_KINDS[(index + round * 3) % SAMPLE_KINDS.length];
        return { moment: momentNear(sync, operations, random), kind, seed: Math.floor(random() * 2 ** 31), sync };
    });
    return planned
        .sort((left, right) => left.moment - right.moment)
        .map((state, index) => ({ index, ...state }));
}
function chooseSyncs(syncs, count, random) {
    const byKind = new Map();
    for (const sync of syncs)
        byKind.set(kindOf(sync), [...(byKind.get(kindOf(sync)) ?? []), sync]);
    const chosen = new Set();
    for (const own of byKind.values())
        for (const sync of shuffled(own, random).slice(0, RARE_MAX))
            chosen.add(sync);
    for (const sync of shuffled(syncs, random)) {
        if (chosen.size >= count)
            break;
        chosen.add(sync);
    }
    return shuffled([...chosen], random);
}
/** What kind of file is synced: in the name of a segment only its suffix counts. */
export function kindOf({ kind, path: name }) {
    const base = path.basename(name);
    const shown = base.replace(/^\d{20}/, 'N').replace(/^[0-9a-f]{8}-[0-9a-f-]{27}/, 'UUID');
    return `${kind} ${shown}`;
}
/** Mostly just before its end, when most is uncertain; sometimes while it lasts, or just behind. */
function momentNear({ begin, end }, operations, random) {
    const dice = random();
    if (dice < 0.55)
        return end - 1;
    if (dice < 0.7)
        return end;
    if (dice < 0.85)
        return begin + Math.floor(random() * (end - begin));
    // Somewhere behind it, where the next has not begun.
    const last = operations.at(-1)?.end ?? end;
    return Math.min(last, end + Math.floor(random() * 8));
}
function shuffled(items, random) {
    const all = [...items];
    for (let index = all.length - 1; index > 0; index -= 1) {
        const other = Math.floor(random() * (index + 1));
        [all[index], all[other]] = [all[other], all[index]];
    }
    return all;
}
//# sourceMappingURL=plan.js.map