/**
 * Time and chance, as the agent's parts see them: handed in by main, replaced by tests.
 */
import { setTimeout as delay } from 'node:timers/promises';
export const systemClock = {
    nowNs: () => BigInt(Date.now()) * 1000000n,
    monotonicMs: () => performance.now(),
    sleep: (ms, signal) => delay(ms, undefined, { signal }),
    random: () => Math.random(),
};
//# sourceMappingURL=clock.js.map