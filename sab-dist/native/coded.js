/**
 * Calls into the addon. What it throws or rejects with is a plain Error, made without a JavaScript stack where a worker
 * thread failed: here it becomes an AfterimageError whose stack leads to the caller.
 */
import { toAfterimageError } from '../proto/errors.js';
/** A call that returns a promise. It is made in here, so that what it throws at once is a rejection too. */
export async function coded(call) {
    try {
        return await call();
    }
    catch (thrown) {
        throw toAfterimageError(thrown);
    }
}
export function codedSync(call) {
    try {
        return call();
    }
    catch (thrown) {
        throw toAfterimageError(thrown);
    }
}
//# sourceMappingURL=coded.js.map