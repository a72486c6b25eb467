import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { MemberPoints } from './member_points.js';
import { parsePoint } from './point_syntax.js';
import { readHistory, spansOf } from './timeline.js';
const GRADES = ['ordered', 'syncing', 'gap', 'damaged'];
export class Points {
    parts;
    members;
    constructor(parts) {
        this.parts = parts;
        this.members = new MemberPoints(parts);
    }
    /**
     * What `text` means in the group `name`. Errors: POINT_INVALID, GROUP_UNKNOWN, CHECKPOINT_UNKNOWN, POINT_UNKNOWN,
     * POINT_EXPIRED, POINT_AMBIGUOUS, and POINT_GRADE when it is not `ordered`, unless forced.
     */
    async resolve(name, text, force) {
        const syntax = parsePoint(text);
        const group = groupNamed(this.parts.catalog, name);
        const members = this.parts.catalog.members.members(group.uuid);
        for (const member of members)
            this.parts.journals.refresh(member.uuid);
        const uuids = members.map(({ uuid }) => uuid);
        const { positions, timeNs } = await this.parts.access.whileOpening(uuids, () => this.positions(group, members, syntax));
        const worst = positions.reduce((left, right) => GRADES.indexOf(right.grade) > GRADES.indexOf(left.grade) ? right : left);
        if (worst.grade !== 'ordered' && !force) {
            const reason = worst.reason === '' ? '' : ` (${worst.reason})`;
            throw new AfterimageError('POINT_GRADE', `${name} at ${text}: ${worst.member.host} is graded ${worst.grade} there${reason}, ` +
                `LSN ${worst.lsn}, ${formatTime(worst.timeNs)}`);
        }
        return { group, positions, text: lastingText(positions, syntax, timeNs), grade: worst.grade };
    }
    async positions(group, members, syntax) {
        const { position: first, timeNs } = await this.named(group, members, syntax);
        const positions = [first];
        for (const member of members) {
            if (member.uuid !== first.member.uuid)
                positions.push(await this.members.atTime(member, timeNs));
        }
        return { positions, timeNs };
    }
    /** The LSN at which a member joins the instant `timeNs`. Errors: as MemberPoints.atTime. */
    async lsnAt(member, timeNs) {
        const found = await this.parts.access.whileOpening([member.uuid], () => this.members.atTime(member, timeNs));
        return found.lsn;
    }
    /**
     * The volumes of the group at the point, or those named, held for `who` ("export 78005a11"). Errors: VOLUME_UNKNOWN,
     * BASE_MISSING, POINT_EXPIRED when the window has moved on meanwhile, and POINT_UNKNOWN when the point is older than a
     * volume's base.
     */
    volumes({ group, positions }, names, who) {
        const found = positions.flatMap((position) => this.volumesOf(position));
        for (const name of names) {
            if (!found.some(({ volume }) => volume.name === name)) {
                const known = found.map(({ volume }) => volume.name).join(', ');
                throw new AfterimageError('VOLUME_UNKNOWN', `${group.name} has no volume ${name} at that point; it has ${known}`);
            }
        }
        const wanted = names.length === 0 ? found : found.filter(({ volume }) => names.includes(volume.name));
        const volumes = wanted.map(({ volume, size, position: { member, lsn } }) => {
            const options = this.options(volume, size, member, lsn);
            return {
                ...{ volume, size, lsn: options.lsn, basePath: options.basePath },
                open: () => this.open(volume, size, member, lsn),
            };
        });
        // In the same turn as options() has seen that it is there.
        const releases = positions.map(({ member, lsn }) => this.parts.access.hold(member.uuid, lsn, who));
        return { volumes, release: () => releases.forEach((release) => release()) };
    }
    /** One volume after the records up to `lsn`, held for `who`. Errors: as options() and openPoint. */
    async hold(volume, size, member, lsn, who) {
        const release = this.parts.access.hold(member.uuid, lsn, who);
        try {
            return { device: await this.open(volume, size, member, lsn), release };
        }
        catch (thrown) {
            release();
            throw thrown;
        }
    }
    open(volume, size, member, lsn) {
        const { access, native, catalog } = this.parts;
        return access.whileOpening([member.uuid], () => {
            // As it is now: the base may have moved, up to the point, since the point was asked for.
            const row = catalog.volumes.volumeWithUuid(volume.uuid) ?? volume;
            return native.openPoint(this.options(row, size, member, lsn));
        });
    }
    /** Errors: BASE_MISSING, POINT_EXPIRED before the window, POINT_UNKNOWN before the base. */
    options(volume, size, member, lsn) {
        const { oldestLsn } = this.parts.catalog.windows.held(member.uuid);
        if (lsn < oldestLsn) {
            throw new AfterimageError('POINT_EXPIRED', `LSN ${lsn} of ${member.host} is older than what is held: the oldest point is LSN ${oldestLsn}`);
        }
        if (volume.baseState !== 'BASE_COMPLETE') {
            throw new AfterimageError('BASE_MISSING', `the initial sync of ${volume.name} is not complete`);
        }
        if (lsn < volume.baseLsn) {
            throw new AfterimageError('POINT_UNKNOWN', `LSN ${lsn} is older than the base of ${volume.name}, which begins at ${volume.baseLsn}`);
        }
        const { store, journals } = this.parts;
        const tiles = journals.tiles(member.uuid, volume.baseLsn, lsn);
        const last = tiles.at(-1)?.segment.lastLsn ?? lsn;
        return {
            basePath: store.baseFile(member.group, member.uuid, volume.uuid),
            size,
            blockSize: volume.blockSize,
            volume: volume.number,
            // Numbers between two generations were never used: the state is that of the last one that was.
            lsn: lsn < last ? lsn : last,
            tiles,
        };
    }
    async named(group, members, syntax) {
        switch (syntax.kind) {
            case 'latest':
                return this.latest(group, members);
            case 'lsn':
                return atRecord(await this.members.atLsn(memberNamed(group, members, syntax.member), syntax.lsn));
            case 'time':
                return this.atTime(anyOf(group, members), syntax.timeNs);
            case 'ago':
                return this.atTime(anyOf(group, members), this.parts.nowNs() - syntax.ns);
            case 'checkpoint':
                return atRecord(await this.checkpoint(group, members, syntax.name));
        }
    }
    async atTime(member, timeNs) {
        return { position: await this.members.atTime(member, timeNs), timeNs };
    }
    /** With several members: the newest instant up to which all of them are known, whoever wrote last. */
    async latest(group, members) {
        const position = await this.members.latest(anyOf(group, members));
        if (members.length === 1)
            return atRecord(position);
        let named = { member: position.member, timeNs: this.orderedUntilNs(position) };
        for (const member of members.slice(1)) {
            const timeNs = this.orderedUntilNs(await this.members.latest(member));
            if (timeNs < named.timeNs)
                named = { member, timeNs };
        }
        return this.atTime(named.member, named.timeNs);
    }
    /** The end of the ordered span that `position` is the last LSN of. */
    orderedUntilNs({ member, timeNs }) {
        const spans = spansOf(readHistory(this.parts.catalog, member.uuid));
        const endNs = spans.findLast(({ grade }) => grade === 'ordered')?.endNs ?? 0n;
        return endNs > timeNs ? endNs : timeNs;
    }
    checkpoint(group, members, name) {
        const checkpoint = this.parts.catalog.checkpoints.checkpoint(group.uuid, name);
        const member = members.find(({ uuid }) => uuid === checkpoint?.member);
        if (checkpoint === null || member === undefined) {
            throw new AfterimageError('CHECKPOINT_UNKNOWN', `${group.name} has no checkpoint ${name}`);
        }
        return this.members.atLsn(member, checkpoint.lsn);
    }
    volumesOf(position) {
        const { catalog } = this.parts;
        const { uuid } = position.member;
        const volumes = new Map(catalog.volumes.volumes(uuid).map((volume) => [volume.number, volume]));
        return catalog.generations.volumes(uuid, position.generation).flatMap(({ number, size }) => {
            const volume = volumes.get(number);
            return volume === undefined ? [] : [{ volume, size, position }];
        });
    }
}
/** How the point is written for good. With several members, those that joined by time join by the same time again. */
function lastingText([{ lsn, member }, ...others], { kind }, timeNs) {
    if (others.length === 0)
        return `lsn:${lsn}`;
    return kind === 'lsn' || kind === 'checkpoint' ? `lsn:${member.uuid}:${lsn}` : formatTime(timeNs);
}
function atRecord(position) {
    return { position, timeNs: position.timeNs };
}
/** Errors: GROUP_UNKNOWN. */
export function groupNamed(catalog, name) {
    const group = catalog.members.groupNamed(name);
    if (group === null)
        throw new AfterimageError('GROUP_UNKNOWN', `there is no group ${name}`);
    return group;
}
function anyOf(group, members) {
    const member = members[0];
    if (member === undefined)
        throw new AfterimageError('POINT_UNKNOWN', `${group.name} has no member yet`);
    return member;
}
function memberNamed(group, members, named) {
    if (named === null) {
        if (members.length > 1) {
            const hosts = members.map(({ host }) => host).join(', ');
            throw new AfterimageError('POINT_INVALID', `${group.name} has several members: write lsn:MEMBER:N with one of ${hosts}`);
        }
        return anyOf(group, members);
    }
    const found = members.filter(({ uuid, host }) => uuid === named || host === named);
    const [member] = found;
    if (member === undefined || found.length > 1) {
        throw new AfterimageError('POINT_UNKNOWN', `${group.name} has ${found.length} members called ${named}`);
    }
    return member;
}
//# sourceMappingURL=points.js.map