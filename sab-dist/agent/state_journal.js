/** The member's state on its way to stable storage: what was asked for, in order, and what each was for. */
import { strict as assert } from 'node:assert';
import { FIRST_STATE } from './stored_state.js';
export class StateJournal {
    emit;
    #state = FIRST_STATE;
    #purposes = [];
    constructor(emit) {
        this.emit = emit;
    }
    /** As last asked for, stored or not. */
    get state() {
        return this.#state;
    }
    /** A change that need not be stored for its own sake: it goes with the next. */
    note(change) {
        this.#state = { ...this.#state, ...change };
    }
    persist(purpose, change) {
        const state = { ...this.#state, ...change };
        assert(state.lsnCeiling >= this.#state.lsnCeiling, 'a ceiling never sinks: LSNs below it may be used');
        this.#state = state;
        this.#purposes.push(purpose);
        this.emit({ type: 'persist', state });
    }
    /** The oldest one was answered. Null when a later one for the same purpose makes it moot. */
    answered() {
        const purpose = this.#purposes.shift();
        assert(purpose !== undefined, 'an answer to no persist');
        return this.#purposes.includes(purpose) ? null : purpose;
    }
}
//# sourceMappingURL=state_journal.js.map