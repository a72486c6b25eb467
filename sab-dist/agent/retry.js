const PAUSE_MS_MIN = 5_000;
const PAUSE_MS_MAX = 60_000;
/**
 * `attempt` gives null when it succeeds, or else why not, of which `failed` hears. Resolves with whether it has succeeded:
 * false when `enough` aborted before. Never rejects.
 */
export async function retry(attempt, failed, clock, enough) {
    for (let pauseMs = PAUSE_MS_MIN;; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
        await clock.sleep(pauseMs, enough).catch(() => undefined);
        if (enough.aborted)
            return false;
        const error = await attempt();
        if (error === null)
            return true;
        failed(error);
    }
}
//# sourceMappingURL=retry.js.map