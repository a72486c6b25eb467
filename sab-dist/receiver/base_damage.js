/**
 * Damaged blocks of base images (R5): which instants need them is found by opening points, and recorded. A block matters
 * from the base on until records have written over all of it; where the newest point still needs it the present generation
 * ends, so that the agent compares, and sends it again if its volume still has it.
 */
import { BAD_OFFSETS_MAX, BASE_BLOCK_BYTES } from '../native/index.js';
import { toAfterimageError } from '../proto/errors.js';
import { higher } from '../proto/watermarks.js';
import { endDamaged } from './journal/damage_record.js';
export class BaseDamage {
    parts;
    working = Promise.resolve();
    constructor(parts) {
        this.parts = parts;
    }
    /** Blocks of the base in `file` were found damaged, at these offsets. Never fails: what fails is named in the log. */
    found(file, offsets) {
        if (offsets.length === 0)
            return;
        this.working = this.working
            .then(() => this.record(file, offsets))
            .catch((thrown) => {
            this.parts.log.error({ err: toAfterimageError(thrown), base: file }, 'damage of a base could not be recorded');
        });
    }
    /** Waits for what is being recorded. */
    async idle() {
        for (let seen = null; seen !== this.working;) {
            seen = this.working;
            await seen;
        }
    }
    /** As found(), but what fails is thrown. Errors: those of opening a point, and of the catalog. */
    async record(file, offsets) {
        const { catalog, store } = this.parts;
        const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
        const journal = volume === null ? null : this.parts.journal(volume.member);
        if (volume === null || journal === null || volume.baseState !== 'BASE_COMPLETE')
            return;
        const firstLsn = this.firstHeld(volume);
        // Points of which it is found what they need must not be given up meanwhile.
        const release = this.parts.access.hold(volume.member, firstLsn, 'a look at a damaged base');
        try {
            await this.recordFrom(firstLsn, volume, journal, file, offsets);
        }
        finally {
            release();
        }
    }
    async recordFrom(firstLsn, volume, journal, file, offsets) {
        const { catalog, log } = this.parts;
        journal.persist();
        const lastLsn = await this.needing(firstLsn, volume, journal, offsets);
        if (lastLsn === undefined || this.isKnown(volume, lastLsn))
            return;
        log.error({ code: 'BASE_CORRUPT', base: file, offsets: offsets.slice(0, 8), firstLsn, lastLsn }, 'blocks of a base are not what was written: instants that need them are graded damaged');
        // A session in the generation that ends would go on in it.
        if (lastLsn === null)
            await journal.stop();
        journal.persist();
        const last = catalog.segments.last(volume.member);
        const row = {
            member: volume.member,
            number: volume.number,
            firstLsn,
            lastLsn,
            lastTimeNs: lastLsn === null ? null : await journal.timeAt(lastLsn),
            foundGeneration: catalog.generations.newest(volume.member)?.generation ?? 0n,
            reason: `BASE_CORRUPT: ${volume.name}, blocks damaged: ${offsets.length}, the first at byte ${offsets[0] ?? 0n}`,
        };
        catalog.atomically(() => {
            catalog.baseDamage.add(row);
            const end = { lastLsn: journal.durableLsn, lastTimeNs: last?.lastTimeNs ?? 0n };
            if (lastLsn === null)
                endDamaged(catalog, volume.member, end, 'BASE_CORRUPT');
        });
    }
    /** Whether record() would find nothing new. Errors: as record. */
    async isRecorded(file, offsets) {
        const { catalog, store } = this.parts;
        const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
        const journal = volume === null ? null : this.parts.journal(volume.member);
        if (volume === null || journal === null)
            return false;
        const lastLsn = await this.needing(this.firstHeld(volume), volume, journal, offsets);
        return lastLsn === undefined || this.isKnown(volume, lastLsn);
    }
    /** The oldest point over the base that can be had: while retention moves it, that lies behind what it is the base of. */
    firstHeld({ member, baseLsn }) {
        return higher(baseLsn, this.parts.catalog.windows.held(member).oldestLsn);
    }
    /** Up to where points need one of the blocks, null: the newest does; undefined: none does. */
    async needing(firstLsn, volume, { durableLsn }, offsets) {
        const lsn = higher(durableLsn, firstLsn);
        // It may have been written over meanwhile, or been a disk's trouble of a moment.
        if (!(await this.isNeeded(volume, offsets, firstLsn)))
            return undefined;
        return this.lastNeeding(firstLsn, volume, offsets, lsn);
    }
    /** The last LSN up to `lsn` that needs one of the blocks; null: `lsn` itself does. Once one does not, none after it does. */
    async lastNeeding(firstLsn, volume, offsets, lsn) {
        const isComplete = offsets.length < BAD_OFFSETS_MAX;
        if (!isComplete || (await this.isNeeded(volume, offsets, lsn)))
            return null;
        let needing = firstLsn;
        for (let free = lsn; needing + 1n < free;) {
            const middle = (needing + free) / 2n;
            if (await this.isNeeded(volume, offsets, middle))
                needing = middle;
            else
                free = middle;
        }
        return needing;
    }
    async isNeeded(volume, offsets, lsn) {
        const { catalog, points } = this.parts;
        const row = catalog.members.member(volume.member);
        if (row === null)
            return false;
        let held = null;
        try {
            held = await points.hold(volume, volume.size, row, lsn, 'a look at a damaged base');
            for (const offset of offsets) {
                const left = volume.size - offset;
                const bytes = left < BASE_BLOCK_BYTES ? left : BASE_BLOCK_BYTES;
                if (bytes > 0n)
                    await held.device.read(offset, Buffer.allocUnsafe(Number(bytes)));
            }
            return false;
        }
        catch (thrown) {
            const { code } = toAfterimageError(thrown);
            // A hole of the journal behind the base: nobody can say that it was written over.
            if (code === 'IO_ERROR' || code === 'SEGMENT_CORRUPT' || code === 'POINT_UNKNOWN')
                return true;
            throw thrown;
        }
        finally {
            await held?.device.close();
            held?.release();
        }
    }
    isKnown(volume, lastLsn) {
        const { catalog } = this.parts;
        const generations = catalog.generations.generations(volume.member);
        const newest = generations.at(-1)?.generation ?? 0n;
        return catalog.baseDamage.damage(volume.member).some((row) => {
            if (row.number !== volume.number)
                return false;
            if (row.lastLsn !== null)
                return lastLsn !== null && lastLsn <= row.lastLsn;
            const end = generations.find(({ generation }) => generation === row.foundGeneration)?.lastLsn ?? null;
            return lastLsn === null ? row.foundGeneration === newest : end !== null && lastLsn <= end;
        });
    }
}
//# sourceMappingURL=base_damage.js.map