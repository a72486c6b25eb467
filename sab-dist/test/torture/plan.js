/** What happens in a round, decided by its seed alone: where everything lies, and which faults strike in which order. */
import { pseudorandom } from '../scenario/seed.js';
export const FAULTS = {
    'agent-killed': {},
    'receiver-killed': {},
    'both-killed': {},
    'agent-stopped': {},
    'receiver-stopped': {},
    'agent-replaced': {},
    'receiver-restarted': {},
    'link-cut': {},
    'link-delayed': {},
    'link-throttled': {},
    'link-stalled': {},
    'ring-full': { hasSmallRing: true, breaks: true },
    'host-lost': { isLoopAlone: true, breaks: true, fails: true },
    'store-full': { store: 'small' },
    'store-no-space': { store: 'faulty' },
    'store-write-fails': { store: 'faulty' },
    'store-write-torn': { store: 'faulty' },
    'store-write-short': { store: 'faulty' },
    'store-sync-fails': { store: 'faulty' },
    'state-full': { hasFaultyState: true },
    'state-write-fails': { hasFaultyState: true },
    'backing-write-fails': { hasFaultyBacking: true, isLoopAlone: true, breaks: true, fails: true },
    'backing-sync-fails': { hasFaultyBacking: true, isLoopAlone: true, breaks: true, fails: true },
};
const KINDS = Object.keys(FAULTS);
const needsOf = (kind) => FAULTS[kind];
const FAULTS_MAX = 4;
/** Every so many rounds a database works as well. */
const DATABASE_EVERY = 8;
const SMALL_RING = '8MiB';
/** More than a round writes while its receiver is away. */
const LARGE_RING = '256MiB';
/** The seed of round `round`, 0, 1, …: it alone makes the round again. */
export function roundSeed(seed, round) {
    return Math.floor(pseudorandom(seed * 1_000_003 + round)() * 2 ** 32);
}
/** `round` chooses the first fault, so that all kinds strike equally often. */
export function planRound(seed, round) {
    const random = pseudorandom(roundSeed(seed, round));
    const chance = (share) => random() < share;
    const any = (all) => all[Math.floor(random() * all.length)];
    const main = KINDS[round % KINDS.length];
    const needs = needsOf(main);
    const isDatabase = round % DATABASE_EVERY === DATABASE_EVERY - 1 && needs.isLoopAlone !== true;
    const volumes = isDatabase
        ? 'database'
        : needs.isLoopAlone !== true && chance(0.25)
            ? 'loop-and-socket'
            : 'loop';
    const plan = {
        volumes,
        store: needs.store ?? (chance(0.6) ? 'small' : 'faulty'),
        hasFaultyState: needs.hasFaultyState ?? chance(0.3),
        hasFaultyBacking: needs.hasFaultyBacking ?? (volumes === 'loop' && chance(0.2)),
        ringBytes: needs.hasSmallRing ? SMALL_RING : LARGE_RING,
        isHistoryShort: chance(0.25),
    };
    const fits = (kind) => {
        const wanted = needsOf(kind);
        if (wanted.store !== undefined && wanted.store !== plan.store)
            return false;
        if (wanted.hasFaultyState && !plan.hasFaultyState)
            return false;
        if (wanted.hasFaultyBacking && !plan.hasFaultyBacking)
            return false;
        if (wanted.hasSmallRing && plan.ringBytes !== SMALL_RING)
            return false;
        return !wanted.isLoopAlone || volumes === 'loop';
    };
    const more = KINDS.filter((kind) => fits(kind));
    const faults = Array.from({ length: Math.floor(random() * FAULTS_MAX) }, () => any(more));
    faults.splice(Math.floor(random() * (faults.length + 1)), 0, main);
    return {
        seed: roundSeed(seed, round),
        ...plan,
        faults,
        mayBreak: plan.ringBytes === SMALL_RING || faults.some((kind) => needsOf(kind).breaks),
        mayFail: faults.some((kind) => needsOf(kind).fails),
    };
}
//# sourceMappingURL=plan.js.map