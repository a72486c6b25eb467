/**
 * The receiver's store: journal, bases and catalog, with what is on stable storage kept apart from what is not (R4). A
 * crash loses the latter, wholly or in part.
 */
import { strict as assert } from 'node:assert';
import { fence, isHeirOf } from '../../receiver/hello.js';
import { logAtHeartbeat, logAtHello, UNKNOWN_LOG } from '../../receiver/log_claims.js';
import { apply, BLOCK_BYTES } from './model_host.js';
export class ModelStore {
    #durable = { writer: null, generations: [], volumes: [], bases: [], checkpoints: [] };
    /** Appended, not yet durable. */
    #appended = [];
    /** The bases as the page cache has them. */
    #cached = [];
    get writer() {
        return this.#durable.writer;
    }
    get generations() {
        return this.#durable.generations;
    }
    get volumes() {
        return this.#durable.volumes;
    }
    get bases() {
        return this.#durable.bases;
    }
    get checkpoints() {
        return this.#durable.checkpoints;
    }
    get durableLsn() {
        const last = this.generations.at(-1);
        return last === undefined ? 0n : (last.records.at(-1)?.lsn ?? last.firstLsn - 1n);
    }
    position() {
        const last = this.generations.at(-1);
        return {
            generation: last?.number ?? 0n,
            firstLsn: last?.firstLsn ?? 1n,
            durableLsn: this.durableLsn,
            link: last?.link ?? 0,
            ended: last?.ended ?? false,
            volumes: this.#durable.volumes.map((volume) => ({ ...volume })),
        };
    }
    /** False: a newer writer was first. */
    storeEpoch(hello) {
        const { epoch, instance, volumes } = hello;
        if (fence(hello, this.writer) !== null)
            return false;
        const isHeir = this.writer === null || isHeirOf(hello, this.writer);
        this.#durable.writer = { epoch, instance };
        if (this.#durable.volumes.length === 0) {
            this.#durable.volumes = volumes.map((info) => ({
                info,
                base: 'BASE_EMPTY',
                syncOffset: 0n,
                syncedLsn: 0n,
                oldestLsn: 0n,
                whole: true,
                log: UNKNOWN_LOG,
            }));
            this.#durable.bases = volumes.map(({ size }) => emptyBase(size));
            this.#cached = volumes.map(({ size }) => emptyBase(size));
        }
        for (const volume of this.#durable.volumes) {
            const claim = hello.logs.find((log) => log.volume === volume.info.number);
            volume.log = logAtHello({ ...volume.log, whole: volume.whole || !isHeir }, claim, this.durableLsn);
            volume.whole = volume.log.whole;
        }
        return true;
    }
    heartbeatLogs(logs) {
        for (const claim of logs) {
            const volume = this.#volume(claim.volume);
            volume.log = logAtHeartbeat({ ...volume.log, whole: volume.whole }, claim);
            volume.whole = volume.log.whole;
        }
    }
    storeDoubt(number) {
        this.#volume(number).whole = true;
    }
    /** Null: it waits for `commit`. The order of frames is the session's to see to; the real journal checks it again. */
    append(frame) {
        const generation = this.#last();
        const tail = this.#appended.at(-1)?.header;
        const lastLsn = tail?.lastLsn ?? this.durableLsn;
        const { header } = frame;
        if (frame.isCorrupt)
            return 'FRAME_CORRUPT';
        assert(header.epoch === this.writer?.epoch, 'a frame of a writer that was replaced');
        assert(header.generation === generation.number && !generation.ended, 'a frame of another generation');
        assert(header.firstLsn === lastLsn + 1n, `R5: LSN ${header.firstLsn} is appended after ${lastLsn}`);
        assert(header.link === (tail?.headerCrc ?? generation.link), 'R5: a frame that does not follow the last one');
        this.#appended.push(frame);
        return null;
    }
    /** One fdatasync: everything appended is durable. */
    commit() {
        for (const { header, records } of this.#appended.splice(0)) {
            const generation = this.#last();
            generation.records.push(...records);
            generation.link = header.headerCrc;
        }
    }
    endGeneration() {
        this.#last().ended = true;
    }
    beginGeneration({ generation, firstLsn }) {
        assert(this.#appended.length === 0, 'a generation begins when everything before is durable');
        this.#durable.generations.push({
            number: generation,
            firstLsn,
            records: [],
            link: 0,
            ended: false,
            orderedFromLsn: null,
        });
        for (const volume of this.#durable.volumes) {
            volume.syncedLsn = 0n;
            // Only a base that nothing rests on is emptied (R6); receiver/session_store.ts does the same.
            if (volume.base === 'BASE_COMPLETE')
                continue;
            Object.assign(volume, { base: 'BASE_EMPTY', syncOffset: 0n, oldestLsn: firstLsn });
        }
        return this.position().volumes;
    }
    beginBase(number) {
        const volume = this.#volume(number);
        assert(volume.base === 'BASE_EMPTY', 'only an empty base is begun');
        this.#cached[number] = emptyBase(volume.info.size);
        this.#durable.bases[number] = emptyBase(volume.info.size);
        volume.base = 'BASE_SYNCING';
    }
    writeBase(number, offset, values) {
        assert(this.#volume(number).base === 'BASE_SYNCING', 'a base is written by an initial sync only (R6)');
        this.#cached[number]?.splice(Number(offset) / BLOCK_BYTES, values.length, ...values);
    }
    syncBase(number, offset) {
        this.#durable.bases[number] = [...(this.#cached[number] ?? [])];
        this.#volume(number).syncOffset = offset;
    }
    markSynced(number, lsn, isWhole) {
        const volume = this.#volume(number);
        assert(volume.base === 'BASE_COMPLETE' || volume.syncOffset === volume.info.size, 'a base is complete when it is durable');
        volume.base = 'BASE_COMPLETE';
        volume.syncedLsn = lsn;
        assert(isWhole || !volume.whole, 'a partial resync of a volume that is in doubt as a whole');
        if (isWhole)
            volume.whole = false;
        // As receiver/timeline.ts finds it.
        const synced = this.#durable.volumes.map(({ syncedLsn }) => syncedLsn);
        if (synced.every((each) => each > 0n)) {
            this.#last().orderedFromLsn = synced.reduce((left, right) => (left > right ? left : right));
        }
    }
    keepCheckpoint(checkpoint) {
        const { orderedFromLsn } = this.#last();
        assert(orderedFromLsn !== null && checkpoint.lsn >= orderedFromLsn, 'a checkpoint where nothing is ordered');
        assert(checkpoint.lsn <= this.durableLsn, 'a checkpoint of what is not durable');
        this.#durable.checkpoints.push(checkpoint);
    }
    /** The content itself stands for its hash. */
    hashes(number, offset, length, blockBytes, beforeLsn) {
        const state = this.bases.map((blocks) => [...blocks]);
        for (const { records } of this.generations) {
            for (const { lsn, changes } of records) {
                if (lsn >= beforeLsn)
                    break;
                for (const change of changes)
                    if (lsn >= this.#volume(change.volume).oldestLsn)
                        apply(state, change);
            }
        }
        const first = Number(offset) / BLOCK_BYTES;
        return contentHashes((state[number] ?? []).slice(first, first + length / BLOCK_BYTES), blockBytes);
    }
    /** Of what was not durable, some may have reached the disk: frames from the front, any block of a base. */
    crash(random) {
        this.#appended.splice(random.int(0, this.#appended.length));
        this.commit();
        this.#durable.bases = this.#durable.bases.map((blocks, number) => blocks.map((value, block) => (random.chance(0.5) ? (this.#cached[number]?.[block] ?? 0) : value)));
        this.#cached = this.#durable.bases.map((blocks) => [...blocks]);
    }
    copy() {
        const { writer, generations, volumes, bases, checkpoints } = this.#durable;
        return {
            writer,
            generations: generations.map((generation) => ({ ...generation, records: [...generation.records] })),
            volumes: volumes.map((volume) => ({ ...volume })),
            bases: bases.map((blocks) => [...blocks]),
            checkpoints: [...checkpoints],
        };
    }
    restore(contents) {
        this.#durable = contents;
        this.#cached = contents.bases.map((blocks) => [...blocks]);
        this.#appended = [];
    }
    #last() {
        const last = this.#durable.generations.at(-1);
        assert(last !== undefined, 'a generation was begun');
        return last;
    }
    #volume(number) {
        const volume = this.#durable.volumes.find(({ info }) => info.number === number);
        assert(volume !== undefined, `volume ${number} is known`);
        return volume;
    }
}
/** 32 bytes a block of `blockBytes`: its sectors' contents. */
export function contentHashes(values, blockBytes) {
    const sectors = blockBytes / BLOCK_BYTES;
    const hashes = Buffer.alloc(Math.ceil(values.length / sectors) * 32);
    values.forEach((value, index) => {
        hashes.writeInt32LE(value, Math.floor(index / sectors) * 32 + (index % sectors) * 4);
    });
    return hashes;
}
function emptyBase(size) {
    return new Array(Number(size) / BLOCK_BYTES).fill(0);
}
//# sourceMappingURL=model_store.js.map