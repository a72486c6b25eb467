/** Who still uses a volume that is to be taken away from the host. */
import { toAfterimageError } from '../proto/errors.js';
const POLL_MS = 200;
const LOG_MS = 10_000;
export class VolumeUse {
    volume;
    clock;
    log;
    #by = null;
    constructor(volume, clock, log) {
        this.volume = volume;
        this.clock = clock;
        this.log = log;
    }
    /** Whom the wait is for; null: nobody is waited for. */
    get by() {
        return this.#by;
    }
    /**
     * Waits until `usedBy` gives null, asking several times a second and telling the log now and then who is in the way.
     * Nobody uses it only where that is known: an error of `usedBy` counts as a use. Returns false when `end` aborted before.
     */
    async untilNone(usedBy, end) {
        const { volume, clock, log } = this;
        let loggedAt = -Infinity;
        try {
            for (;;) {
                this.#by = await usedBy().catch((thrown) => `somebody unknown (${toAfterimageError(thrown).message})`);
                if (this.#by === null)
                    return true;
                if (end.aborted) {
                    log.warn({ volume, usedBy: this.#by }, 'the volume is taken away although it is in use');
                    return false;
                }
                if (clock.monotonicMs() - loggedAt >= LOG_MS) {
                    log.warn({ volume, usedBy: this.#by }, 'the volume is in use: waiting; a second signal takes it away');
                    loggedAt = clock.monotonicMs();
                }
                await clock.sleep(POLL_MS, end).catch(() => undefined);
            }
        }
        finally {
            this.#by = null;
        }
    }
}
//# sourceMappingURL=volume_use.js.map