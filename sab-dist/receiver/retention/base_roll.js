import { named } from '../../service/system_errors.js';
import { removeDropped } from '../journal/dropped_files.js';
const PIECE_BYTES_MAX = 4n * 1024n * 1024n;
/** A piece is what the rate allows in this part of a second: who wants it to stop waits no longer. */
const PIECES_PER_SECOND = 8n;
export class BaseRoll {
    parts;
    constructor(parts) {
        this.parts = parts;
    }
    /** Durably gives up what is before `target`. Checkpoints there are lost, and told. */
    raise({ uuid, group }, target) {
        const { catalog, log } = this.parts;
        const held = catalog.windows.held(uuid);
        if (target.lsn <= held.oldestLsn)
            return;
        catalog.atomically(() => {
            for (const { name, lsn } of catalog.checkpoints.before(uuid, target.lsn)) {
                catalog.checkpoints.delete(group, name);
                log.warn({ member: uuid, checkpoint: name, lsn }, 'a checkpoint is older than what is held, and gone');
            }
            catalog.windows.put(uuid, { ...held, oldestLsn: target.lsn, oldestTimeNs: target.timeNs });
        });
    }
    /**
     * All that follows `raise`, up to the oldest point. False when it was stopped; it can be called again.
     * `rateMax`: asked before each piece; bytes per second, null: no bound. Errors: SEGMENT_CORRUPT and IO_ERROR of the segments,
     * JOURNAL_FULL, JOURNAL_IO, BACKING_BUSY, and BASE_CORRUPT where only a part of a damaged block of a base would be written
     * over: what the segments have of it stays there until they have all of it.
     */
    async finish(row, journal, rateMax, isStopping) {
        const { catalog, store, access, atStage } = this.parts;
        const { oldestLsn } = catalog.windows.held(row.uuid);
        const roll = access.beginRoll(row.uuid);
        if (roll === null)
            return false;
        try {
            await atStage('raised');
            const volumes = catalog.volumes
                .volumes(row.uuid)
                .filter(({ baseState, baseLsn }) => baseState === 'BASE_COMPLETE' && baseLsn < oldestLsn);
            const control = { rateMax, isStopped: () => roll.isStopped || isStopping() };
            for (const volume of volumes) {
                if (!(await this.apply(row, journal, volume, oldestLsn, control)))
                    return false;
            }
            if (control.isStopped())
                return false;
            this.forget(row, volumes, oldestLsn);
            await atStage('forgotten');
            // Those who found the files by the catalog before have opened them by then.
            await access.opened(row.uuid);
            await removeDropped(store.journalDirectory(row.group, row.uuid), oldestLsn);
            await atStage('removed');
            return true;
        }
        finally {
            roll.end();
        }
    }
    async apply(row, journal, volume, lsn, { rateMax, isStopped }) {
        const { native, store, sleep, atStage } = this.parts;
        const tiles = journal.tiles(volume.baseLsn, lsn);
        const last = tiles.at(-1);
        if (last === undefined)
            return true;
        const basePath = store.baseFile(row.group, row.uuid, volume.uuid);
        const roll = await native.openRollForward({
            ...{ basePath, size: volume.size, blockSize: volume.blockSize, volume: volume.number, tiles },
            // Damage may have taken the end of the last one.
            lsn: last.segment.lastLsn,
        });
        try {
            for (let isDone = false; !isDone;) {
                if (isStopped())
                    return false;
                const rate = await rateMax();
                const share = rate === null ? PIECE_BYTES_MAX : rate / PIECES_PER_SECOND;
                const step = await roll.advance(share < PIECE_BYTES_MAX ? share : PIECE_BYTES_MAX);
                isDone = step.isDone;
                await atStage('applying');
                if (rate !== null && !isDone)
                    await sleep(Number((step.bytesWritten * 1000n) / rate));
            }
            await atStage('applied');
            await named(roll.sync(), basePath, 'JOURNAL_FULL');
            await atStage('synced');
            return true;
        }
        finally {
            await roll.close();
        }
    }
    forget({ uuid }, volumes, lsn) {
        const { catalog } = this.parts;
        catalog.atomically(() => {
            for (const { number } of volumes)
                catalog.volumes.raiseBase(uuid, number, lsn);
            catalog.segments.deleteUpTo(uuid, lsn);
            catalog.eras.deleteBefore(uuid, lsn);
            const own = catalog.generations.generations(uuid).findLast(({ firstLsn }) => firstLsn <= lsn);
            if (own !== undefined) {
                // Damage counts to the end of the generation in which it was found, however much of its journal is left.
                catalog.damage.deleteBefore(uuid, own.generation);
                catalog.baseDamage.deleteBefore(uuid, lsn, own.generation);
                catalog.generations.deleteBefore(uuid, own.generation);
            }
            catalog.windows.put(uuid, { ...catalog.windows.held(uuid), droppedLsn: lsn });
        });
    }
}
//# sourceMappingURL=base_roll.js.map