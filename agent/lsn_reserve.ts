/** Keeps LSNs reserved on stable storage ahead of their use, so that no crash makes one of them used twice. */
import type { Shipment } from './shipment.js';
import type { StateJournal } from './state_journal.js';

export class LsnReserve {
  /** Being stored. */
  #raising: { generation: bigint; lsn: bigint } | null = null;

  constructor(
    /** LSNs reserved at once. */
    private readonly count: bigint,
    private readonly shipment: Shipment,
    private readonly store: StateJournal,
  ) {}

  /** Reserves more when half is used. */
  advance(): void {
    const { stream, marks, usedLsnMax } = this.shipment;
    if (stream.state !== 'live' || this.#raising !== null) return;
    if (usedLsnMax - marks.captured >= this.count / 2n) return;
    const lsn = marks.captured + this.count;
    this.#raising = { generation: stream.generation, lsn };
    this.store.persist('ceiling', { durableLsn: marks.durable, lsnCeiling: lsn });
  }
  /** They may be used, unless the stream that they were for is over. */
  stored(): void {
    if (this.#raising !== null) this.shipment.raiseCeiling(this.#raising.generation, this.#raising.lsn);
    this.#raising = null;
  }
  failed(): void {
    this.#raising = null;
  }
}
