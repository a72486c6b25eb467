/**
 * The dirty logs of a host's volumes as native/capture/dirty_log.h promises them: what is marked survives every crash, and
 * is unmarked when the receiver has it, a flush of the backing has followed, and nobody is writing to it.
 */
import type { DirtyLogPosition, VolumeInfo } from '../../proto/replication.js';
import { ExtentSet } from '../../agent/extent_set.js';
import { BLOCK_BYTES } from './model_host.js';
import type { Random } from './random.js';

export const EXTENT_BLOCKS = 4;
const EXTENT_BYTES = EXTENT_BLOCKS * BLOCK_BYTES;

/** On stable storage, of one volume. */
interface StoredLog {
  id: bigint;
  sequence: bigint;
  basisLsn: bigint;
  marked: Set<number>;
}
/** What a state directory holds of them. */
export type StoredLogs = StoredLog[];

export function newLogs(volumes: readonly VolumeInfo[], random: Random): StoredLogs {
  return volumes.map(({ size }) => ({
    id: BigInt(random.int(1, 2 ** 31)),
    sequence: 2n,
    basisLsn: 0n,
    marked: new Set(Array.from({ length: Math.ceil(Number(size) / EXTENT_BYTES) }, (_, extent) => extent)),
  }));
}
export function copyLogs(logs: StoredLogs): StoredLogs {
  return logs.map((log) => ({ ...log, marked: new Set(log.marked) }));
}

/** Of a process: gone with it. */
export class ModelDirtyLogs {
  /** By volume and extent: writers inside, and whether anybody came since the last cut. */
  readonly #inside = new Map<string, number>();
  readonly #touched = new Set<string>();
  readonly #synced = new Map<number, bigint>();

  constructor(readonly stored: StoredLogs) {
    stored.forEach(({ marked }, volume) => {
      for (const extent of marked) this.#touched.add(key(volume, extent));
    });
  }

  positions(volumes: readonly VolumeInfo[]): DirtyLogPosition[] {
    return volumes.map(({ number }) => {
      const { id, sequence, basisLsn } = this.#log(number);
      return { volume: number, id, sequence, basisLsn };
    });
  }
  extents(volume: number, size: bigint): ExtentSet {
    const bitmap = Buffer.alloc(Math.ceil(Number(size) / EXTENT_BYTES / 8));
    for (const extent of this.#log(volume).marked) {
      bitmap[extent >> 3] = (bitmap[extent >> 3] ?? 0) | (1 << (extent & 7));
    }
    return ExtentSet.of(size, EXTENT_BYTES, bitmap);
  }
  markAll(volume: number, size: bigint): void {
    const log = this.#log(volume);
    for (let extent = 0; extent * EXTENT_BYTES < size; extent += 1) {
      log.marked.add(extent);
      this.#touched.add(key(volume, extent));
    }
    log.sequence += 1n;
  }
  isMarked(volume: number, block: number): boolean {
    return this.#log(volume).marked.has(Math.floor(block / EXTENT_BLOCKS));
  }

  /** Before the backing changes. */
  enter(volume: number, block: number, count: number): void {
    const log = this.#log(volume);
    for (const extent of extentsOf(block, count)) {
      const at = key(volume, extent);
      this.#inside.set(at, (this.#inside.get(at) ?? 0) + 1);
      this.#touched.add(at);
      if (log.marked.has(extent)) continue;
      log.marked.add(extent);
      log.sequence += 1n;
    }
  }
  /** After its record was published, or could not be. */
  leave(volume: number, block: number, count: number): void {
    for (const extent of extentsOf(block, count)) {
      const at = key(volume, extent);
      this.#inside.set(at, (this.#inside.get(at) ?? 0) - 1);
    }
  }

  setSynced(volume: number, generation: bigint): void {
    this.#synced.set(volume, generation);
  }
  syncedGeneration(volume: number): bigint {
    return this.#synced.get(volume) ?? 0n;
  }
  cut(volume: number): void {
    for (const extent of this.#log(volume).marked) {
      const at = key(volume, extent);
      if ((this.#inside.get(at) ?? 0) === 0) this.#touched.delete(at);
    }
  }
  /** How many. */
  unmark(volume: number, basisLsn: bigint): number {
    const log = this.#log(volume);
    const chosen = [...log.marked].filter((extent) => {
      const at = key(volume, extent);
      return !this.#touched.has(at) && (this.#inside.get(at) ?? 0) === 0;
    });
    if (chosen.length === 0) return 0;
    for (const extent of chosen) log.marked.delete(extent);
    log.sequence += 1n;
    log.basisLsn = basisLsn;
    return chosen.length;
  }

  #log(volume: number): StoredLog {
    const log = this.stored[volume];
    if (log === undefined) throw new Error(`no volume ${volume}`);
    return log;
  }
}

function extentsOf(block: number, count: number): number[] {
  const first = Math.floor(block / EXTENT_BLOCKS);
  const last = Math.floor((block + count - 1) / EXTENT_BLOCKS);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
function key(volume: number, extent: number): string {
  return `${volume}:${extent}`;
}
