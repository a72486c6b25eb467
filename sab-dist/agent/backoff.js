/**
 * How long to wait before the next attempt: exponential with full jitter, so that many agents whose receiver came
 * back do not all knock at the same moment.
 */
export const BACKOFF_MS_MIN = 100;
export const BACKOFF_MS_MAX = 10_000;
/**
 * Milliseconds to wait before attempt number `attempt`: none before attempt 0, then uniform in
 * [0, min(MAX, MIN · 2^(attempt − 1))). `random` is uniform in [0, 1).
 */
export function backoffMs(attempt, random) {
    if (attempt <= 0)
        return 0;
    // 2^attempt overflows to Infinity long after the minimum has cut it off.
    return random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (attempt - 1));
}
//# sourceMappingURL=backoff.js.map