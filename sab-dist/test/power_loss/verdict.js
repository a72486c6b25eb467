/** What is found about a state. */
/** Of one state: what more of it is wrong follows from these. */
const VIOLATIONS_MAX = 8;
/**
 * What may be broken: `opens` that a store opens and finds nothing missing; R3, R4, R6; `checkpoint` that one that was made
 * is there; `ingest` that the journal goes on; `agent` that an agent knows who it is and what it has used; `truth` that
 * the journal in the end is what the writers saw.
 */
export const PROMISES = ['opens', 'R3', 'R4', 'R6', 'checkpoint', 'ingest', 'agent', 'truth'];
export class Violations {
    all = [];
    add(promise, text) {
        if (this.all.length < VIOLATIONS_MAX)
            this.all.push({ promise, text });
    }
}
//# sourceMappingURL=verdict.js.map