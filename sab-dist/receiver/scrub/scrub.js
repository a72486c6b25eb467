/**
 * Reads members' journals and bases again in full, from the disk, while everything goes on: what has rotted is recorded
 * (journal/damage_watch.ts, base_damage.ts) before somebody needs it. One scrub at a time, at a bounded rate.
 */
import { stat } from 'node:fs/promises';
import { AfterimageError } from '../../proto/errors.js';
import { parseUuid } from '../../proto/uuid.js';
import { Pace } from '../../service/pace.js';
import { named } from '../../service/system_errors.js';
import { readSegment } from '../journal/inspection.js';
import { segmentInfo } from '../journal/segment_row.js';
/** Of a base, between two steps. */
const BASE_PIECE_BYTES = 16n * 1024n * 1024n;
export class Scrub {
    parts;
    present = null;
    constructor(parts) {
        this.parts = parts;
    }
    /** The step that was told last of the scrub under way; null: there is none. */
    get step() {
        return this.present;
    }
    /**
     * Scrubs the members of `groups`, one after the other. `rate`: bytes per second, null: no bound.
     * Errors: SCRUB_BUSY, INTERRUPTED, PERMISSION_DENIED, IO_ERROR.
     */
    async *run(groups, rate, signal) {
        if (this.present !== null) {
            throw new AfterimageError('SCRUB_BUSY', `${this.present.group} is being scrubbed`);
        }
        const { catalog, nowMs, sleep } = this.parts;
        const pace = new Pace(rate, { nowMs, sleep, signal });
        try {
            for (const group of groups) {
                for (const member of catalog.members.members(group.uuid)) {
                    yield* this.scrubMember(group, member, pace, signal);
                }
            }
        }
        finally {
            this.present = null;
        }
    }
    async *scrubMember(group, member, pace, signal) {
        const { catalog, nowNs, log, watch, baseDamage } = this.parts;
        const segments = catalog.segments.segments(member.uuid);
        const bases = catalog.volumes
            .volumes(member.uuid)
            .filter(({ baseState }) => baseState === 'BASE_COMPLETE');
        const step = {
            ...{ group: group.name, member: member.uuid, host: member.host, damaged: 0n, done: false },
            bytesDone: 0n,
            bytesTotal: [...segments.map(({ bytes }) => bytes), ...bases.map(({ size }) => size)].reduce((sum, bytes) => sum + bytes, 0n),
        };
        const read = async (bytes, damaged) => {
            step.bytesDone += bytes;
            step.damaged += BigInt(damaged);
            this.present = { ...step };
            await pace.spent(bytes);
            if (signal.aborted)
                throw new AfterimageError('INTERRUPTED', `the scrub of ${group.name} was stopped`);
            return this.present;
        };
        yield await read(0n, 0);
        for (const row of segments) {
            yield await read(row.bytes, (await this.isDamaged(member, row)) ? 1 : 0);
        }
        for (const volume of bases) {
            for await (const { bytes, damaged } of this.scrubBase(member, volume))
                yield await read(bytes, damaged);
        }
        await watch.idle();
        await baseDamage.idle();
        const { bytesDone: bytes, damaged } = step;
        catalog.scrubs.put({ member: member.uuid, finishedNs: nowNs(), bytes, damaged });
        log.info({ group: group.name, host: member.host, bytes, damaged }, 'scrubbed');
        yield { ...step, bytesDone: step.bytesTotal, done: true };
    }
    /** The segment is read up to where it was known to reach: it may be growing. */
    async isDamaged(member, row) {
        const { catalog, store, native, watch } = this.parts;
        const file = store.segmentFile(member.group, member.uuid, row.firstLsn);
        const identity = { group: parseUuid(member.group), member: parseUuid(member.uuid) };
        try {
            const { info } = await readSegment(file, identity, native.scanSegment);
            if ((info?.lastLsn ?? 0n) >= row.lastLsn)
                return false;
        }
        catch (thrown) {
            const isGone = !(await exists(file));
            // Retention lets go of segments meanwhile; one that is gone while the catalog still has it is lost.
            if (!isGone)
                throw thrown;
        }
        if (catalog.segments.atOrBefore(member.uuid, row.firstLsn)?.firstLsn !== row.firstLsn)
            return false;
        watch.found(segmentInfo(row, file));
        return true;
    }
    async *scrubBase(member, { uuid, size }) {
        const { store, native, baseDamage } = this.parts;
        const file = store.baseFile(member.group, member.uuid, uuid);
        for (let offset = 0n; offset < size; offset += BASE_PIECE_BYTES) {
            const { badOffsets } = await native.scrubBase(file, size, offset, BASE_PIECE_BYTES);
            baseDamage.found(file, badOffsets);
            const left = size - offset;
            yield { bytes: left < BASE_PIECE_BYTES ? left : BASE_PIECE_BYTES, damaged: badOffsets.length };
        }
    }
}
async function exists(file) {
    try {
        await stat(file);
        return true;
    }
    catch (thrown) {
        if (thrown.code === 'ENOENT')
            return false;
        return named(Promise.reject(thrown), file);
    }
}
//# sourceMappingURL=scrub.js.map