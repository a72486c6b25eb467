/** The step from one generation to the next: which numbers it gets, and why. */
import type { Welcome } from '../proto/replication.js';
import { higher } from '../proto/watermarks.js';
import type { GenerationNumbers } from './session_events.js';
import type { Shipment } from './shipment.js';
import type { StateJournal } from './state_journal.js';

export class GenerationChange {
  /** What the receiver said last. */
  peer: Pick<Welcome, 'generation' | 'durableLsn' | 'hashKey'> = {
    generation: 0n,
    durableLsn: 0n,
    hashKey: Buffer.alloc(0),
  };
  /** Why the generation before could not go on. */
  reason = '';
  #numbers: GenerationNumbers = { epoch: 0n, generation: 0n, firstLsn: 1n, lsnCeiling: 0n };

  constructor(
    private readonly lsnReserve: bigint,
    private readonly shipment: Shipment,
    private readonly store: StateJournal,
  ) {}

  /** As last reserved. */
  get numbers(): GenerationNumbers {
    return this.#numbers;
  }

  /** Puts the numbers on stable storage, above all that either side ever used, before anybody hears of them. */
  reserve(): void {
    const { marks, usedLsnMax } = this.shipment;
    const { state } = this.store;
    const used = higher(usedLsnMax, higher(marks.durable, this.peer.durableLsn));
    const generation = higher(state.generation, this.peer.generation) + 1n;
    const lsnCeiling = higher(state.lsnCeiling, used + this.lsnReserve);
    this.#numbers = { epoch: state.epoch, generation, firstLsn: used + 1n, lsnCeiling };
    this.store.persist('generation', { generation, lsnCeiling, durableLsn: marks.durable });
  }
}
