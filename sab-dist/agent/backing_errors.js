/** Requests that a volume's backing failed, as the log hears of them: a disk that dies fails thousands a second. */
import { ERRORS } from '../proto/errors.js';
const LOG_MS_MIN = 60_000;
export class BackingErrors {
    #told = 0n;
    #toldMs = -Infinity;
    /** `count`: since the start. Ask again and again; `nowMs` never goes backwards. */
    tell(count, title, log, nowMs) {
        if (count === this.#told || nowMs - this.#toldMs < LOG_MS_MIN)
            return;
        const requests = count - this.#told;
        this.#told = count;
        this.#toldMs = nowMs;
        const { hint } = ERRORS.BACKING_FAILED;
        log.error({ code: 'BACKING_FAILED', requests, hint }, `failed requests of ${title}: ${requests}`);
    }
}
//# sourceMappingURL=backing_errors.js.map