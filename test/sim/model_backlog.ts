/**
 * What was captured and is not confirmed: the newest part in a ring, which a killed process leaves to its successor, and
 * what the ring had no room for in spool files before it. As native/capture/backlog.h and spooler.h promise it.
 */
import { strict as assert } from 'node:assert';
import type { GenerationNumbers } from '../../agent/session_events.js';
import type { ModelRecord } from './model_capture.js';
import type { ModelHost } from './model_host.js';
import type { Random } from './random.js';

export interface ModelRing {
  /** Of no other ring. */
  id: number;
  stream: {
    /** Null: none was begun. */
    numbers: GenerationNumbers | null;
    releasedLsn: bigint;
    /** Null: it has not ended. */
    endReason: string | null;
  };
  records: ModelRecord[];
  /** Where what lies in the spool begins; null: nothing does. */
  spooledLsn: bigint | null;
}
export interface ModelSpoolFile {
  ring: number;
  records: ModelRecord[];
  bytes: number;
  /** It cannot be read back. */
  isDamaged: boolean;
}
export interface BacklogLimits {
  ringBytes: number;
  /** 0: there is no spool. */
  spoolBytes: number;
}

export const SPOOL_FILE_BYTES = 8_000;
const BATCH_RECORDS = 3;

export class ModelBacklog {
  #ringUsedBytes: number;
  #fault: string | null = null;

  private constructor(
    readonly ring: ModelRing,
    /** Of the host; those of this ring, in order. */
    private readonly files: ModelSpoolFile[],
    private readonly limits: BacklogLimits,
  ) {
    this.#ringUsedBytes = bytesOf(ring.records);
  }

  static create(host: ModelHost, limits: BacklogLimits, random: Random): ModelBacklog {
    const stream = { numbers: null, releasedLsn: 0n, endReason: null };
    host.ring = { id: random.int(1, 2 ** 31), stream, records: [], spooledLsn: null };
    host.spool.length = 0;
    return new ModelBacklog(host.ring, host.spool, limits);
  }

  /** Null: the spool does not hold what the ring says. */
  static adopt(host: ModelHost, ring: ModelRing, limits: BacklogLimits): ModelBacklog | null {
    const { spool } = host;
    spool.splice(0, spool.length, ...spool.filter((file) => file.ring === ring.id));
    const lsns = [...spool.flatMap(({ records }) => records), ...ring.records].map(({ lsn }) => lsn);
    if (ring.spooledLsn !== null && (spool.length === 0 || lsns[0] !== ring.spooledLsn)) return null;
    assert(ring.spooledLsn === null || ring.records.length > 0, 'something follows what was spooled');
    if (lsns.some((lsn, index) => lsn !== (lsns[0] ?? 0n) + BigInt(index))) return null;
    return new ModelBacklog(ring, spool, limits);
  }

  /** Why nothing can be spooled now. */
  get fault(): string | null {
    return this.#fault;
  }
  get ringUsedBytes(): number {
    return this.#ringUsedBytes;
  }
  get spooledBytes(): number {
    return this.files.reduce((sum, { bytes }) => sum + bytes, 0);
  }
  get isEmpty(): boolean {
    return this.files.length === 0 && this.ring.records.length === 0;
  }
  get isCrowded(): boolean {
    return this.files.length > 0 || this.#isRingCrowded;
  }
  /** The last LSN of the stream. */
  get lastLsn(): bigint {
    const { numbers, releasedLsn } = this.ring.stream;
    const first = numbers === null ? 0n : numbers.firstLsn - 1n;
    return this.ring.records.at(-1)?.lsn ?? (releasedLsn > first ? releasedLsn : first);
  }

  hasRoom(bytes: number): boolean {
    return this.#ringUsedBytes + bytes <= this.limits.ringBytes;
  }
  add(record: ModelRecord): void {
    this.ring.records.push(record);
    this.#ringUsedBytes += record.bytes;
  }

  /** At most `count` records behind `lsn`; none: there are none. Null: they cannot be read. */
  readAfter(lsn: bigint, count: number): ModelRecord[] | null {
    const file = this.files.find(({ records }) => (records.at(-1)?.lsn ?? 0n) > lsn);
    if (file?.isDamaged === true) return null;
    const { records } = file ?? this.ring;
    const first = records.findIndex((record) => record.lsn > lsn);
    return first < 0 ? [] : records.slice(first, first + count);
  }

  /** Spool files go as a whole, and the ring forgets nothing before they are gone. */
  release(lsn: bigint): void {
    while (this.files[0] !== undefined && (this.files[0].records.at(-1)?.lsn ?? 0n) <= lsn)
      this.files.shift();
    this.ring.spooledLsn = this.files[0]?.records[0]?.lsn ?? null;
    if (this.files.length > 0) return;
    const kept = this.ring.records.findIndex((record) => record.lsn > lsn);
    this.#forgetOldest(kept < 0 ? this.ring.records.length : kept);
  }
  forget(): void {
    this.files.length = 0;
    this.ring.spooledLsn = null;
    this.#forgetOldest(this.ring.records.length);
  }

  /** Moves the oldest records of a crowded ring. `disk`: why it cannot be written to, null: it can. */
  spool(disk: string | null): boolean {
    const { spoolBytes } = this.limits;
    if (!this.#isRingCrowded) {
      if (this.#fault === 'SPOOL_FULL') this.#fault = null;
      return false;
    }
    if (spoolBytes === 0) return false;
    const batch = this.#oldest(this.limits.ringBytes / 4);
    const bytes = bytesOf(batch);
    const last = this.files.at(-1);
    const isNew = last === undefined || last.bytes + bytes > SPOOL_FILE_BYTES;
    const isFull = isNew && (this.files.length + 1) * SPOOL_FILE_BYTES > spoolBytes;
    this.#fault = isFull ? 'SPOOL_FULL' : disk;
    if (this.#fault !== null) return false;
    const file = isNew ? { ring: this.ring.id, records: [], bytes: 0, isDamaged: false } : last;
    if (isNew) this.files.push(file);
    file.records = [...file.records, ...batch];
    file.bytes += bytes;
    this.ring.spooledLsn ??= batch[0]?.lsn ?? null;
    this.#forgetOldest(batch.length);
    return true;
  }

  /** No more than a few, and never all: a crowded ring keeps something that follows them. */
  #oldest(bytesMax: number): ModelRecord[] {
    let count = 1;
    while (count < BATCH_RECORDS && bytesOf(this.ring.records.slice(0, count + 1)) <= bytesMax) count += 1;
    return this.ring.records.slice(0, count);
  }
  get #isRingCrowded(): boolean {
    return this.#ringUsedBytes > this.limits.ringBytes / 2;
  }
  #forgetOldest(count: number): void {
    this.#ringUsedBytes -= bytesOf(this.ring.records.splice(0, count));
  }
}

function bytesOf(records: readonly ModelRecord[]): number {
  return records.reduce((sum, { bytes }) => sum + bytes, 0);
}
