/** The volumes of a member as the receiver has them: what is in their bases, and from where on they are consistent. */
import type { VolumeState } from '../proto/replication.js';
import type { StoredVolume } from './session_events.js';

export class MemberVolumes {
  #volumes: StoredVolume[];

  constructor(
    volumes: StoredVolume[],
    /** StoredPosition.leftSyncedLsns */
    private readonly leftSyncedLsns: readonly bigint[],
  ) {
    this.#volumes = volumes.map((volume) => ({ ...volume }));
  }

  get(number: number): StoredVolume | undefined {
    return this.#volumes.find(({ info }) => info.number === number);
  }
  /** For Welcome and GenerationAccepted. */
  get states(): VolumeState[] {
    return this.#volumes.map(({ info, base, syncOffset, syncedLsn, whole }) => ({
      number: info.number,
      base,
      syncOffset,
      synced: syncedLsn > 0n,
      whole,
    }));
  }
  /** Every LSN of the generation from here on shows all volumes consistently; null while one is not synced. */
  get orderedFromLsn(): bigint | null {
    return this.orderedFromLsnWith(null, 0n);
  }
  /** The same, once volume `number` is consistent from `lsn` on. */
  orderedFromLsnWith(number: number | null, lsn: bigint): bigint | null {
    const synced = this.#volumes.map(({ info, syncedLsn }) => (info.number === number ? lsn : syncedLsn));
    let from = 0n;
    for (const syncedLsn of [...synced, ...this.leftSyncedLsns]) {
      if (syncedLsn === 0n) return null;
      if (syncedLsn > from) from = syncedLsn;
    }
    return from === 0n ? null : from;
  }
}
