import { toAfterimageError } from '../../proto/errors.js';
import { parseUuid } from '../../proto/uuid.js';
import { runFile } from '../store.js';
import { recordDamage } from './damage_record.js';
import { isDamage, readSegment } from './inspection.js';
export class DamageWatch {
    parts;
    /** What reads segments, watched. */
    native;
    /** Segments that are being looked at, by path: damage is met by everybody at once. */
    looking = new Map();
    /** Open points: their base, and how many damaged blocks of it they have told. */
    open = new Map();
    constructor(parts) {
        this.parts = parts;
        const { openPoint, openRollForward, timeAtLsn, lsnAtTime, buildRun } = parts.native;
        this.native = {
            openRollForward: (options) => this.watchedRoll(openRollForward(options), options),
            openPoint: async (options) => this.followed(await this.watched(openPoint(options), () => this.lookAtTiles(options)), options.basePath),
            timeAtLsn: (segment, lsn) => this.watched(timeAtLsn(segment, lsn), () => this.look(segment)),
            lsnAtTime: (segment, timeNs) => this.watched(lsnAtTime(segment, timeNs), () => this.look(segment)),
            buildRun: (segment, run) => this.watched(buildRun(segment, run), () => this.look(segment)),
        };
    }
    /** What open points have found in their bases since; to be called now and then. */
    askOpenPoints() {
        for (const point of this.open.keys())
            this.ask(point);
    }
    /** A scrub has found the segment damaged. */
    found(segment) {
        this.look(segment);
    }
    /** Waits for what is being looked at. */
    async idle() {
        while (this.looking.size > 0)
            await Promise.all(this.looking.values());
    }
    async watched(read, look) {
        try {
            return await read;
        }
        catch (thrown) {
            if (isDamage(thrown))
                look();
            throw thrown;
        }
    }
    /** It reads what the newest records of each sector left, anywhere in its segments. */
    async watchedRoll(opening, { tiles, basePath }) {
        const look = () => tiles.forEach(({ segment }) => this.look(segment));
        const roll = await this.watched(opening, look);
        return {
            advance: async (bytesMax) => {
                try {
                    return await this.watched(roll.advance(bytesMax), look);
                }
                catch (thrown) {
                    if (toAfterimageError(thrown).code === 'BASE_CORRUPT') {
                        this.parts.onBaseDamage(basePath, roll.badOffsets());
                    }
                    throw thrown;
                }
            },
            sync: () => roll.sync(),
            badOffsets: () => roll.badOffsets(),
            close: () => roll.close(),
        };
    }
    followed(point, base) {
        this.open.set(point, { base, told: 0 });
        const close = point.close.bind(point);
        point.close = async () => {
            this.ask(point);
            this.open.delete(point);
            await close();
        };
        return point;
    }
    ask(point) {
        const followed = this.open.get(point);
        if (followed === undefined)
            return;
        const offsets = this.parts.native.badBaseOffsets(point);
        if (offsets.length === followed.told)
            return;
        followed.told = offsets.length;
        this.parts.onBaseDamage(followed.base, offsets);
    }
    /** A point reads the last segment, and those whose run does not help. */
    lookAtTiles({ tiles }) {
        tiles.forEach(({ segment, run }, index) => {
            if (run === null || index === tiles.length - 1)
                this.look(segment);
            else
                this.start(run, async () => {
                    if (await this.parts.native.isRunOf(segment, run))
                        return;
                    const owner = this.parts.store.ownerOf(segment.path);
                    if (owner !== null)
                        this.parts.catalog.segments.setRun(owner.member, segment.firstLsn, false);
                    this.look(segment);
                });
        });
    }
    look(segment) {
        this.start(segment.path, () => this.check(segment));
    }
    start(path, work) {
        if (this.looking.has(path))
            return;
        const done = work()
            .catch((thrown) => {
            this.parts.log.error({ err: toAfterimageError(thrown), path }, 'damage could not be looked at');
        })
            .finally(() => this.looking.delete(path));
        this.looking.set(path, done);
    }
    async check({ path, firstLsn }) {
        const { catalog, store, native, log } = this.parts;
        const owner = store.ownerOf(path);
        const member = owner === null ? null : this.parts.member(owner.member);
        if (owner === null || member === null)
            return;
        const { journal } = member;
        // What was durable before it is read: an append may be under way behind that.
        journal.persist();
        const row = catalog.segments.atOrBefore(owner.member, firstLsn);
        if (row?.firstLsn !== firstLsn)
            return;
        const identity = { group: parseUuid(owner.group), member: parseUuid(owner.member) };
        const { info, reason } = await readSegment(path, identity, native.scanSegment);
        const lastLsn = info?.lastLsn ?? firstLsn - 1n;
        if (lastLsn >= row.lastLsn)
            return;
        log.error({ segment: path, run: runFile(path), reason }, 'a segment was damaged since it was written');
        // A session in the generation that ends would go on appending to it.
        while (member.live !== null)
            await member.live.displace(null);
        journal.persist();
        // Retention may have dropped it since: its instants are gone, and its records in the bases.
        if (catalog.segments.atOrBefore(owner.member, firstLsn)?.firstLsn !== firstLsn)
            return;
        const end = catalog.segments.last(owner.member);
        catalog.atomically(() => {
            const hole = { firstLsn: lastLsn + 1n, lastLsn: row.lastLsn, reason };
            recordDamage({ catalog, log }, owner.member, [hole], {
                lastLsn: journal.durableLsn,
                lastTimeNs: end?.lastTimeNs ?? 0n,
            });
            journal.cut(row, info);
        });
    }
}
//# sourceMappingURL=damage_watch.js.map