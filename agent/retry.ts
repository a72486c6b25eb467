/** Trying again what could not be started, after pauses that grow. */
import type { AfterimageError } from '../proto/errors.js';
import type { Clock } from './clock.js';

const PAUSE_MS_MIN = 5_000;
const PAUSE_MS_MAX = 60_000;

/**
 * `attempt` gives null when it succeeds, or else why not, of which `failed` hears. Resolves with whether it has succeeded:
 * false when `enough` aborted before. Never rejects.
 */
export async function retry(
  attempt: () => Promise<AfterimageError | null>,
  failed: (error: AfterimageError) => void,
  clock: Clock,
  enough: AbortSignal,
): Promise<boolean> {
  for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
    await clock.sleep(pauseMs, enough).catch(() => undefined);
    if (enough.aborted) return false;
    const error = await attempt();
    if (error === null) return true;
    failed(error);
  }
}
