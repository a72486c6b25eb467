/**
 * The sync that is under way in a session, of one volume at a time: pieces into its base, or a resync through the
 * journal. Pure; a part of the session machine. A volume is consistent once the agent's fence is durable in the journal
 * and its base is on stable storage.
 */
import type { HashRequest, SyncBegin, SyncData, SyncDone } from '../proto/replication.js';
import type { ReceiverAction, StoredVolume } from './session_events.js';
import type { SessionLimits } from './session_limits.js';

export class VolumeSync {
  readonly #volume: StoredVolume;
  readonly #kind: SyncBegin['kind'];
  #isWhole: boolean;
  /** Where the next piece may begin. */
  #nextOffset: bigint;
  #isBegun: boolean;
  /** Pieces handed to the file and not answered. */
  readonly #writing: { end: bigint; bytes: number }[] = [];
  #writtenOffset: bigint;
  #writtenBytes = 0;
  #isSyncingBase = false;
  #hashing = 0;
  #doneLsn: bigint | null = null;
  #isMarking = false;

  /** The volume must be in the state that `fault` wants. */
  constructor(
    volume: StoredVolume,
    begin: SyncBegin,
    private readonly limits: SessionLimits,
    private readonly emit: (action: ReceiverAction) => void,
  ) {
    this.#volume = volume;
    this.#kind = begin.kind;
    this.#isWhole = !begin.partial;
    this.#nextOffset = begin.offset;
    this.#writtenOffset = begin.offset;
    this.#isBegun = begin.kind === 'SYNC_RESYNC' || volume.base === 'BASE_SYNCING';
    if (!this.#isBegun) emit({ type: 'beginBase', volume: begin.volume });
  }

  /** Why the volume cannot be synced like this; null: it can. */
  static fault(volume: StoredVolume, { kind, offset, partial }: SyncBegin): string | null {
    const { base, syncOffset, syncedLsn, info, whole } = volume;
    if (syncedLsn > 0n) return 'is synced';
    if (partial && (whole || kind !== 'SYNC_RESYNC')) return 'is in doubt as a whole';
    if (kind === 'SYNC_RESYNC') {
      if (base !== 'BASE_COMPLETE') return 'has no base to compare with';
      return offset > info.size ? 'is not that large' : null;
    }
    // Only an empty base is written directly: one that an ordered point rests on never again (R6).
    if (base === 'BASE_COMPLETE') return 'has a complete base';
    return offset === (base === 'BASE_EMPTY' ? 0n : syncOffset) ? null : 'goes on elsewhere';
  }

  get volume(): StoredVolume {
    return this.#volume;
  }
  /** All of it is copied or compared. */
  get isWhole(): boolean {
    return this.#isWhole;
  }
  /** The agent found out that what it compares is not enough: it compares everything. */
  widen(): void {
    this.#isWhole = true;
  }
  /** From here on the volume will be consistent; null before SyncDone. */
  get doneLsn(): bigint | null {
    return this.#doneLsn;
  }
  /** Nothing that it asked for is unanswered. */
  get isIdle(): boolean {
    return (
      this.#isBegun &&
      this.#writing.length === 0 &&
      !this.#isSyncingBase &&
      this.#hashing === 0 &&
      !this.#isMarking
    );
  }

  /** Null, or what is wrong with the piece; likewise below. */
  data(piece: Pick<SyncData, 'volume' | 'offset' | 'rawBytes'>): string | null {
    const { offset, rawBytes } = piece;
    const end = offset + BigInt(rawBytes);
    if (this.#kind !== 'SYNC_INITIAL' || piece.volume !== this.#number || this.#doneLsn !== null) {
      return 'SyncData outside an initial sync';
    }
    if (rawBytes < 1 || rawBytes > this.limits.pieceBytesMax) return `SyncData of ${rawBytes} bytes`;
    if (offset < this.#nextOffset) return `SyncData at ${offset} after ${this.#nextOffset}`;
    if (end > this.#volume.info.size) return `SyncData at ${offset} beyond the end of the volume`;
    if (this.#writing.length >= this.limits.piecesMax) return 'more sync data than the window holds';
    this.#nextOffset = end;
    this.#writing.push({ end, bytes: rawBytes });
    this.emit({ type: 'writeBase', volume: this.#number, offset });
    return null;
  }

  hash({ id, volume, offset, length, blockBytes }: HashRequest, beforeLsn: bigint): string | null {
    const { limits } = this;
    if (this.#kind !== 'SYNC_RESYNC' || volume !== this.#number || this.#doneLsn !== null) {
      return 'HashRequest outside a resync';
    }
    if (length < 1 || length > limits.hashBytesMax || offset + BigInt(length) > this.#volume.info.size) {
      return `HashRequest for ${length} bytes at ${offset}`;
    }
    if (blockBytes < limits.hashBlockBytesMin || blockBytes % 512 !== 0)
      return `blocks of ${blockBytes} bytes`;
    if (this.#hashing >= limits.hashRequestsMax) return `more than ${limits.hashRequestsMax} HashRequests`;
    this.#hashing += 1;
    this.emit({ type: 'hash', id, volume, offset, length, blockBytes, beforeLsn });
    return null;
  }

  done({ volume, lsn }: SyncDone, firstLsn: bigint): string | null {
    if (volume !== this.#number || this.#doneLsn !== null) return 'SyncDone without a sync';
    if (lsn < firstLsn - 1n) return `SyncDone at ${lsn}, before the generation`;
    this.#doneLsn = lsn;
    return null;
  }

  begun(): void {
    this.#isBegun = true;
    this.#volume.base = 'BASE_SYNCING';
    this.#volume.syncOffset = 0n;
  }
  written(): void {
    const piece = this.#writing.shift();
    if (piece === undefined) return;
    this.#writtenOffset = piece.end;
    this.#writtenBytes += piece.bytes;
  }
  baseSynced(offset: bigint): void {
    this.#isSyncingBase = false;
    this.#volume.syncOffset = offset;
  }
  hashed(): void {
    this.#hashing -= 1;
  }

  /** Makes the base durable when enough of it was written, and when all of it was. */
  advance(): void {
    if (this.#kind === 'SYNC_RESYNC' || !this.#isBegun || this.#isSyncingBase) return;
    const isLast = this.#doneLsn !== null && this.#writing.length === 0 && !this.#isBaseDurable;
    const { baseSyncBytes, baseSyncBytesIdle } = this.limits;
    const enoughBytes = this.#writing.length > 0 ? baseSyncBytes : baseSyncBytesIdle;
    if (!isLast && this.#writtenBytes < enoughBytes) return;
    this.#isSyncingBase = true;
    this.#writtenBytes = 0;
    const offset = isLast ? this.#volume.info.size : this.#writtenOffset;
    this.emit({ type: 'syncBase', volume: this.#number, offset });
  }

  /** True once, when the volume is consistent from `doneLsn` on. */
  mark(durableLsn: bigint): boolean {
    if (this.#doneLsn === null || this.#doneLsn > durableLsn || this.#isMarking || !this.isIdle) return false;
    if (this.#kind === 'SYNC_INITIAL' && !this.#isBaseDurable) return false;
    this.#isMarking = true;
    return true;
  }
  marked(lsn: bigint): void {
    this.#isMarking = false;
    this.#volume.base = 'BASE_COMPLETE';
    this.#volume.syncedLsn = lsn;
    if (this.#isWhole) this.#volume.whole = false;
  }

  get #number(): number {
    return this.#volume.info.number;
  }
  get #isBaseDurable(): boolean {
    return this.#volume.syncOffset === this.#volume.info.size;
  }
}
