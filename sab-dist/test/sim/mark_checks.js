/**
 * The watermarks that a session shows, held against what the model has really seen. The sessions assert the order of
 * their own marks; this does not rely on it, and knows more: no mark is above what was captured, sent, taken in or made
 * durable (R4, R5).
 */
import { strict as assert } from 'node:assert';
/** The highest LSNs of a whole history, whoever gave or got them: nothing that is claimed may be above. */
export class Reached {
    /** Given to a record by any host. */
    captured = 0n;
    /** Of a frame that came to any receiver. */
    received = 0n;
    /** On the store's stable storage at any time, also of a store that was later replaced by a copy. */
    durable = 0n;
    /** A generation begins above every LSN that was reserved: those below are nobody's, and all marks begin there. */
    begin(firstLsn) {
        for (const mark of ['captured', 'received', 'durable'])
            this.raise(mark, firstLsn - 1n);
    }
    raise(mark, lsn) {
        if (lsn > this[mark])
            this[mark] = lsn;
    }
}
function checkOrder(who, { applied, durable, received, shipped, captured }) {
    const marks = [applied, durable, received, shipped, captured];
    marks.forEach((mark, index) => {
        const above = marks[index + 1] ?? captured;
        assert(mark <= above, `${who}: applied ≤ durable ≤ received ≤ shipped ≤ captured, not ${marks.join(', ')}`);
    });
}
function checkMost(who, mark, claimed, real) {
    assert(claimed <= real, `${who} claims that ${claimed} is ${mark}, but only ${real} is`);
}
export function checkAgentMarks(marks, model, reached) {
    checkOrder('agent', marks);
    checkMost('agent', 'captured', marks.captured, reached.captured);
    checkMost('agent', 'received', marks.received, max(reached.received, reached.durable));
    checkMost('agent', 'durable', marks.durable, reached.durable);
    if (model.shipped === null)
        return;
    if (model.captured !== null)
        checkMost('agent', 'captured', marks.captured, model.captured);
    assert(marks.shipped === model.shipped, `agent: ${marks.shipped} is shipped, ${model.shipped} was sent`);
}
export function checkReceiverMarks(marks, model, reached) {
    checkOrder('receiver', marks);
    checkMost('receiver', 'captured', marks.captured, reached.captured);
    checkMost('receiver', 'durable', marks.durable, model.durable);
    assert(marks.received === model.received, `receiver: ${marks.received} is received, ${model.received} was given to the store`);
    assert(marks.applied === model.first - 1n || (model.orderedFrom !== null && model.orderedFrom <= marks.applied), `receiver: ${marks.applied} is offered, ordered from ${model.orderedFrom ?? 'nowhere'}`);
}
function max(a, b) {
    return a > b ? a : b;
}
//# sourceMappingURL=mark_checks.js.map