/** The end of several things, each of which is ended whatever became of the others. */
import { toAfterimageError } from '../proto/errors.js';
/** Begins each stage when all of the one before has settled. Errors: the first, when everything has settled. */
export async function endAll(...stages) {
    const errors = [];
    for (const stage of stages)
        for (const end of await Promise.allSettled(stage()))
            if (end.status === 'rejected')
                errors.push(end.reason);
    if (errors.length > 0)
        throw toAfterimageError(errors[0]);
}
//# sourceMappingURL=endings.js.map