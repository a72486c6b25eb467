/**
 * What a session wants done, once its member is known: each method carries out one action of the session machine
 * (session_events.ts) and returns the event that answers it. Errors are thrown with their code.
 */
import { AfterimageError } from '../proto/errors.js';
import { formatUuid } from '../proto/uuid.js';
import { BaseImages } from './base_images.js';
import { BlockHashes } from './block_hashes.js';
import { recordDamage } from './journal/damage_record.js';
import { segmentVolumes } from './journal/opening.js';
export class SessionWork {
    parts;
    hello;
    member;
    bases;
    hashes;
    /** From a heartbeat, waiting for its LSN to be durable. */
    coverage = null;
    constructor(parts, hello, member, hashKey) {
        this.parts = parts;
        this.hello = hello;
        this.member = member;
        this.bases = new BaseImages(parts.native, parts.room);
        this.hashes = new BlockHashes(hashKey);
    }
    /**
     * Where the member's journal stands. A generation that the catalog has and the journal has not begun is begun now.
     * Errors: those with which the journal refuses it, as the same frames would be.
     */
    async position(epoch) {
        const { journal } = this.member;
        const { catalog } = this.parts;
        this.recordLost();
        this.parts.sessions.helloLogs(this.row.uuid, this.hello, journal.durableLsn);
        const newest = catalog.generations.newest(this.row.uuid);
        if (newest !== null && newest.lastLsn === null && journal.generation !== newest.generation) {
            const volumes = segmentVolumes(catalog, this.row.uuid, newest.generation);
            await journal.beginGeneration(epoch, newest.generation, newest.firstLsn, volumes);
        }
        const generation = newest?.generation ?? 0n;
        return {
            generation,
            firstLsn: newest?.firstLsn ?? 1n,
            durableLsn: journal.durableLsn,
            link: journal.link,
            ended: newest !== null && newest.lastLsn !== null,
            volumes: this.parts.sessions.volumes(this.row.uuid, generation, this.hello.volumes),
        };
    }
    /**
     * What the agent was told to be durable in this generation and is not here: from the last second before a crash, whose
     * acknowledgements the catalog never saw, or everything since this store was copied.
     */
    recordLost() {
        const { catalog, log } = this.parts;
        const { journal } = this.member;
        const newest = catalog.generations.newest(this.row.uuid);
        const { generation, durableLsn } = this.hello;
        if (newest === null || newest.lastLsn !== null || newest.generation !== generation)
            return;
        const here = newest.firstLsn > journal.durableLsn ? newest.firstLsn - 1n : journal.durableLsn;
        if (durableLsn <= here)
            return;
        const reason = `the agent was told that ${durableLsn} is durable, the journal ends at ${here}`;
        const hole = { firstLsn: here + 1n, lastLsn: durableLsn, reason };
        journal.persist();
        const lastTimeNs = catalog.segments.last(this.row.uuid)?.lastTimeNs ?? 0n;
        catalog.atomically(() => {
            recordDamage({ catalog, log }, this.row.uuid, [hole], { lastLsn: here, lastTimeNs });
        });
    }
    /** `bytes` are the frame's as they came; they may be reused as soon as this has returned its promise. */
    async append(bytes) {
        const { buffers } = this.parts;
        const frame = buffers.take(bytes);
        try {
            const durableLsn = await this.member.journal.append(frame);
            this.cover(durableLsn);
            return { type: 'appended', durableLsn };
        }
        finally {
            buffers.release(frame);
        }
    }
    endGeneration(end) {
        this.member.journal.persist();
        this.parts.sessions.endGeneration(this.row.uuid, end);
        this.coverage = null;
        return { type: 'generationEnded' };
    }
    async beginGeneration(epoch, begin) {
        const { catalog, sessions } = this.parts;
        const { journal } = this.member;
        const { uuid } = this.row;
        await this.hashes.close();
        await this.bases.close();
        this.coverage = null;
        await this.parts.access.stopRoll(uuid);
        journal.persist();
        sessions.beginGeneration(uuid, begin, journal.durableLsn);
        const volumes = segmentVolumes(catalog, uuid, begin.generation);
        await journal.beginGeneration(epoch, begin.generation, begin.firstLsn, volumes);
        return { type: 'generationBegun', volumes: sessions.volumes(uuid, begin.generation, begin.volumes) };
    }
    async beginBase({ volume }) {
        const { size } = this.parts.sessions.volume(this.row.uuid, volume);
        await this.bases.begin(this.baseFile(volume), size);
        this.parts.sessions.setSyncing(this.row.uuid, volume, 0n);
        return { type: 'baseBegun', volume };
    }
    async writeBase({ volume }, piece) {
        await this.bases.write(this.baseFile(volume), piece);
        return { type: 'baseWritten', volume };
    }
    async syncBase({ volume, offset }) {
        const file = this.baseFile(volume);
        const isWhole = offset === this.parts.sessions.volume(this.row.uuid, volume).size;
        await (isWhole ? this.bases.seal(file) : this.bases.sync(file));
        this.parts.sessions.setSyncing(this.row.uuid, volume, offset);
        return { type: 'baseSynced', volume, offset };
    }
    async markSynced({ volume, lsn, isWhole }) {
        const { catalog, sessions } = this.parts;
        const generation = catalog.generations.newest(this.row.uuid)?.generation ?? 0n;
        // Before the first record of a generation only the agent's own word says when it was.
        const timeNs = (await this.member.journal.timeAt(lsn)) ?? this.member.heartbeat?.nowNs ?? 0n;
        sessions.markSynced(this.row.uuid, generation, volume, { lsn, timeNs, isWhole });
        await this.bases.release(this.baseFile(volume));
        await this.hashes.release(volume);
        return { type: 'syncedMarked', volume };
    }
    async hash(action) {
        const { points, sessions } = this.parts;
        const volume = sessions.volume(this.row.uuid, action.volume);
        const open = () => points.hold(volume, volume.size, this.row, action.beforeLsn - 1n, `the sync of ${volume.name}`);
        return { type: 'hashed', id: action.id, hashes: await this.hashes.hash(action.volume, open, action) };
    }
    keepCheckpoint({ requestId, name, lsn, timeNs }) {
        const { checkpoints } = this.parts.catalog;
        const { group, uuid: member } = this.row;
        if (checkpoints.checkpoint(group, name) !== null) {
            const message = `${this.hello.groupName} has a checkpoint ${name} already`;
            return { type: 'checkpointFailed', requestId, code: 'CHECKPOINT_EXISTS', message };
        }
        // A checkpoint that outlives a crash has what it names in the catalog too.
        this.member.journal.persist();
        checkpoints.add({ group, name, member, lsn, timeNs, consistency: 'crash', pinned: false });
        return { type: 'checkpointKept', requestId };
    }
    /** `nowNs` was read before `capturedLsn` was: once that is durable, nothing up to then is missing. */
    noteHeartbeat(heartbeat, isCapturing) {
        const { capturedLsn: lsn, nowNs, state, logs } = heartbeat;
        this.parts.sessions.heartbeatLogs(this.row.uuid, logs);
        this.member.heartbeat = heartbeat;
        this.member.journal.noteClock(nowNs);
        if (this.coverage !== null && nowNs < this.coverage.timeNs)
            this.coverage = null;
        if (!isCapturing || state === 'tracking')
            return;
        this.coverage ??= { lsn, timeNs: nowNs };
        this.cover(this.member.journal.durableLsn);
    }
    noteLogs({ logs }) {
        this.parts.sessions.noteLogs(this.row.uuid, logs);
    }
    /** Before anything that comes after it. */
    storeDoubt({ volume }) {
        this.parts.sessions.doubtVolume(this.row.uuid, volume);
    }
    async close() {
        await this.bases.close();
        await this.hashes.close();
        this.member.heartbeat = null;
    }
    cover(durableLsn) {
        if (this.coverage === null || this.coverage.lsn > durableLsn)
            return;
        this.member.journal.noteCoverage(this.coverage);
        this.coverage = null;
    }
    get row() {
        return this.member.journal.member;
    }
    baseFile(volume) {
        const { uuid } = this.parts.sessions.volume(this.row.uuid, volume);
        return this.parts.store.baseFile(this.row.group, this.row.uuid, uuid);
    }
}
/** Makes the writer of `hello` the member's only one, on stable storage. False when a newer one came first. */
export async function storeWriter({ store, sessions }, hello) {
    // The directories first: a member that the catalog names has them.
    await store.createMember(formatUuid(hello.group), formatUuid(hello.member));
    return sessions.storeWriter(hello);
}
/** A piece that came without the message that it belongs to: a defect of this program. */
export function missing(what) {
    return new AfterimageError('INTERNAL', `an action without its ${what}`);
}
//# sourceMappingURL=session_work.js.map