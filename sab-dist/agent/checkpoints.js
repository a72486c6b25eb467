/** Checkpoints that an operator asked this agent for, until the receiver has kept them or not. */
import { AfterimageError, isErrorCode } from '../proto/errors.js';
import { isName } from '../service/config.js';
/** Longest wait for the receiver: it has to have everything up to the checkpoint on stable storage first. */
export const CHECKPOINT_WAIT_MS = 100_000;
export class Checkpoints {
    request;
    clock;
    waiting = new Map();
    /** `request` hands a request to the session, which bounds how many there may be. */
    constructor(request, clock) {
        this.request = request;
        this.clock = clock;
    }
    /**
     * Resolves with the position that was marked, once the receiver has kept it. Errors: CHECKPOINT_INVALID,
     * CHECKPOINT_EXISTS, CHECKPOINT_PENDING, and why the session could not ask.
     */
    async create(name) {
        if (!isName(name))
            throw new AfterimageError('CHECKPOINT_INVALID', `"${name}" is not a name`);
        const requestId = crypto.randomUUID();
        const answered = new AbortController();
        try {
            return await Promise.race([
                new Promise((kept, failed) => {
                    this.waiting.set(requestId, { position: null, kept, failed });
                    this.request(requestId, name);
                }),
                this.timeOut(name, answered.signal),
            ]);
        }
        finally {
            answered.abort();
            this.waiting.delete(requestId);
        }
    }
    /** Where the checkpoint will be, or null: nowhere. Requests that came by way of the receiver are unknown here, and theirs to answer. */
    located(requestId, lsn, timeNs) {
        const waiting = this.waiting.get(requestId);
        if (waiting !== undefined && lsn !== null)
            waiting.position = { lsn, timeNs };
    }
    /** The end of a request; `code` "": it was kept. */
    answer(requestId, code, message) {
        const waiting = this.waiting.get(requestId);
        if (waiting === undefined)
            return; // it was given up before
        if (code === '' && waiting.position !== null)
            waiting.kept(waiting.position);
        else
            waiting.failed(new AfterimageError(isErrorCode(code) ? code : 'INTERNAL', message));
    }
    async timeOut(name, answered) {
        await this.clock.sleep(CHECKPOINT_WAIT_MS, answered);
        throw new AfterimageError('CHECKPOINT_PENDING', `checkpoint ${name} is marked, and not durable yet`);
    }
}
//# sourceMappingURL=checkpoints.js.map