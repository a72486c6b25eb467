import { ExtentSet } from '../../agent/extent_set.js';
import { BLOCK_BYTES } from './model_host.js';
export const EXTENT_BLOCKS = 4;
const EXTENT_BYTES = EXTENT_BLOCKS * BLOCK_BYTES;
export function newLogs(volumes, random) {
    return volumes.map(({ size }) => ({
        id: BigInt(random.int(1, 2 ** 31)),
        sequence: 2n,
        basisLsn: 0n,
        marked: new Set(Array.from({ length: Math.ceil(Number(size) / EXTENT_BYTES) }, (_, extent) => extent)),
    }));
}
export function copyLogs(logs) {
    return logs.map((log) => ({ ...log, marked: new Set(log.marked) }));
}
/** Of a process: gone with it. */
export class ModelDirtyLogs {
    stored;
    /** By volume and extent: writers inside, and whether anybody came since the last cut. */
    #inside = new Map();
    #touched = new Set();
    #synced = new Map();
    constructor(stored) {
        this.stored = stored;
        stored.forEach(({ marked }, volume) => {
            for (const extent of marked)
                this.#touched.add(key(volume, extent));
        });
    }
    positions() {
        return this.stored.map(({ id, sequence, basisLsn }, volume) => ({ volume, id, sequence, basisLsn }));
    }
    extents(volume, size) {
        const bitmap = Buffer.alloc(Math.ceil(Number(size) / EXTENT_BYTES / 8));
        for (const extent of this.#log(volume).marked) {
            bitmap[extent >> 3] = (bitmap[extent >> 3] ?? 0) | (1 << (extent & 7));
        }
        return ExtentSet.of(size, EXTENT_BYTES, bitmap);
    }
    isMarked(volume, block) {
        return this.#log(volume).marked.has(Math.floor(block / EXTENT_BLOCKS));
    }
    /** Before the backing changes. */
    enter(volume, block, count) {
        const log = this.#log(volume);
        for (const extent of extentsOf(block, count)) {
            const at = key(volume, extent);
            this.#inside.set(at, (this.#inside.get(at) ?? 0) + 1);
            this.#touched.add(at);
            if (log.marked.has(extent))
                continue;
            log.marked.add(extent);
            log.sequence += 1n;
        }
    }
    /** After its record was published, or could not be. */
    leave(volume, block, count) {
        for (const extent of extentsOf(block, count)) {
            const at = key(volume, extent);
            this.#inside.set(at, (this.#inside.get(at) ?? 0) - 1);
        }
    }
    setSynced(volume, generation) {
        this.#synced.set(volume, generation);
    }
    syncedGeneration(volume) {
        return this.#synced.get(volume) ?? 0n;
    }
    cut(volume) {
        for (const extent of this.#log(volume).marked) {
            const at = key(volume, extent);
            if ((this.#inside.get(at) ?? 0) === 0)
                this.#touched.delete(at);
        }
    }
    /** How many. */
    unmark(volume, basisLsn) {
        const log = this.#log(volume);
        const chosen = [...log.marked].filter((extent) => {
            const at = key(volume, extent);
            return !this.#touched.has(at) && (this.#inside.get(at) ?? 0) === 0;
        });
        if (chosen.length === 0)
            return 0;
        for (const extent of chosen)
            log.marked.delete(extent);
        log.sequence += 1n;
        log.basisLsn = basisLsn;
        return chosen.length;
    }
    #log(volume) {
        const log = this.stored[volume];
        if (log === undefined)
            throw new Error(`no volume ${volume}`);
        return log;
    }
}
function extentsOf(block, count) {
    const first = Math.floor(block / EXTENT_BLOCKS);
    const last = Math.floor((block + count - 1) / EXTENT_BLOCKS);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
function key(volume, extent) {
    return `${volume}:${extent}`;
}
//# sourceMappingURL=model_dirty_log.js.map