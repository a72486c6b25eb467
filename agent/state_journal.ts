/** The member's state on its way to stable storage: what was asked for, in order, and what each was for. */
import { strict as assert } from 'node:assert';
import type { AgentAction, StoredState } from './session_events.js';
import { FIRST_STATE } from './stored_state.js';

/** What waits for a state to be stored. */
export type Purpose =
  'open' | 'ceiling' | 'generation' | 'accepted' | 'welcomed' | 'reshaped' | 'cleanStop' | 'stop';

export class StateJournal {
  #state: StoredState = FIRST_STATE;
  readonly #purposes: Purpose[] = [];

  constructor(private readonly emit: (action: AgentAction) => void) {}

  /** As last asked for, stored or not. */
  get state(): StoredState {
    return this.#state;
  }

  /** A change that need not be stored for its own sake: it goes with the next. */
  note(change: Partial<Pick<StoredState, 'timeNs' | 'era' | 'durableLsn' | 'volumes'>>): void {
    this.#state = { ...this.#state, ...change };
  }

  persist(purpose: Purpose, change: Partial<StoredState>): void {
    const state = { ...this.#state, ...change };
    assert(state.lsnCeiling >= this.#state.lsnCeiling, 'a ceiling never sinks: LSNs below it may be used');
    this.#state = state;
    this.#purposes.push(purpose);
    this.emit({ type: 'persist', state });
  }

  /** The oldest one was answered. Null when a later one for the same purpose makes it moot. */
  answered(): Purpose | null {
    const purpose = this.#purposes.shift();
    assert(purpose !== undefined, 'an answer to no persist');
    return this.#purposes.includes(purpose) ? null : purpose;
  }
}
