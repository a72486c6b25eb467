/** Many histories, one after the other, and what came up in them. */
import { History } from './history.js';
export function simulate(options) {
    const { seed, seeds, secondsMax, nowMs, onFailure } = options;
    const beganMs = nowMs();
    const elapsed = () => (nowMs() - beganMs) / 1000;
    const summary = { seeds: 0, failed: [], points: 0, records: 0, seconds: 0, counts: {} };
    const { counts } = summary;
    for (let at = seed; at < seed + seeds; at += 1) {
        if (secondsMax > 0 && elapsed() > secondsMax)
            break;
        summary.seeds += 1;
        try {
            const result = new History(at).run();
            summary.points += result.points;
            summary.records += result.records;
            for (const [kind, count] of result.counts)
                counts[kind] = (counts[kind] ?? 0) + count;
        }
        catch (thrown) {
            summary.failed.push(at);
            onFailure(at, thrown instanceof Error ? thrown : new Error(String(thrown)));
        }
    }
    summary.seconds = elapsed();
    return summary;
}
//# sourceMappingURL=simulation.js.map