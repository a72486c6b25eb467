/**
 * The catalog's side of a session: who may write, what a member's stream has come to, and how generations and syncs are
 * recorded. Every method is one transaction or one look; the order is the session machine's (session_events.ts).
 */
import { AfterimageError } from '../proto/errors.js';
import { formatUuid } from '../proto/uuid.js';
import { isName } from '../service/settings.js';
import { NOT_COVERED } from './catalog/members.js';
import { coveredTime } from './coverage.js';
import { fence, isHeirOf } from './hello.js';
import { logAtHeartbeat, logAtHello } from './log_claims.js';
import { NUMBER_MAX } from './session_limits.js';
export class SessionStore {
    catalog;
    nowNs;
    /** What was told since the last heartbeat, by member and volume: not worth a write to the disk each. */
    told = new Map();
    constructor(catalog, nowNs) {
        this.catalog = catalog;
        this.nowNs = nowNs;
    }
    /**
     * The writer that the catalog has for the member. Errors: GROUP_MISMATCH, VOLUME_MISMATCH when it knows group, member
     * or a volume as something else; MESSAGE_INVALID.
     */
    find(hello) {
        const { catalog } = this;
        assertNumbers(hello.epoch, hello.usedLsnMax, hello.durableLsn, ...hello.volumes.map(({ size }) => size));
        // Names become parts of paths: of sockets, mount points and recovered files.
        const bad = [hello.groupName, ...hello.volumes.map(({ name }) => name)].find((name) => !isName(name));
        if (bad !== undefined)
            throw new AfterimageError('MESSAGE_INVALID', `${JSON.stringify(bad)} is no name`);
        const group = formatUuid(hello.group);
        const uuid = formatUuid(hello.member);
        const named = catalog.members.groupNamed(hello.groupName);
        if (named !== null && named.uuid !== group) {
            throw new AfterimageError('GROUP_MISMATCH', `${hello.groupName} is the group ${named.uuid}, not ${group}`);
        }
        const known = catalog.members.group(group);
        if (known !== null && known.name !== hello.groupName) {
            throw new AfterimageError('GROUP_MISMATCH', `${group} is called ${known.name}, not ${hello.groupName}`);
        }
        const member = catalog.members.member(uuid);
        if (member !== null && member.group !== group) {
            throw new AfterimageError('GROUP_MISMATCH', `member ${uuid} belongs to the group ${member.group}`);
        }
        for (const volume of hello.volumes)
            this.checkVolume(group, uuid, volume);
        return member === null ? null : { epoch: member.epoch, instance: member.instance };
    }
    /** Records group, member, volumes and the writer. False, and nothing changed, when a newer writer came first. */
    storeWriter(hello) {
        const { catalog } = this;
        const group = formatUuid(hello.group);
        const uuid = formatUuid(hello.member);
        return catalog.atomically(() => {
            const writer = catalog.members.member(uuid);
            if (fence(hello, writer) !== null)
                return false;
            if (writer !== null && !isHeirOf(hello, writer))
                catalog.doubts.raise(uuid);
            if (catalog.members.group(group) === null)
                catalog.members.addGroup({ uuid: group, name: hello.groupName });
            catalog.members.putMember({
                uuid,
                group,
                host: hello.host,
                epoch: hello.epoch,
                instance: hello.instance,
                ackedLsn: 0n,
                coverage: NOT_COVERED,
            });
            for (const info of hello.volumes)
                this.putVolume(uuid, info);
            return true;
        });
    }
    member(uuid) {
        const member = this.catalog.members.member(uuid);
        if (member === null)
            throw new Error(`member ${uuid} was not stored`);
        return member;
    }
    volume(member, number) {
        const volume = this.catalog.volumes.volumes(member).find((row) => row.number === number);
        if (volume === undefined)
            throw new Error(`volume ${number} of ${member} was not stored`);
        return volume;
    }
    /** The volumes of `infos` as they are, in generation `generation`. */
    volumes(member, generation, infos) {
        const synced = new Map(this.catalog.generations
            .volumes(member, generation)
            .map(({ number, orderedLsn }) => [number, orderedLsn ?? 0n]));
        return infos.map((info) => {
            const { baseState, syncOffset } = this.volume(member, info.number);
            const { whole } = this.catalog.doubts.doubt(member, info.number);
            return { info, base: baseState, syncOffset, syncedLsn: synced.get(info.number) ?? 0n, whole };
        });
    }
    /** What the dirty logs of a Hello are worth; the journal is durable up to `durableLsn`. */
    helloLogs(member, { volumes, logs }, durableLsn) {
        assertLogs(logs);
        this.catalog.atomically(() => {
            for (const { number } of volumes) {
                const told = this.told.get(`${member} ${number}`);
                const isNewer = ({ logId, sequence }) => told !== undefined && (told.id !== logId || told.sequence > sequence);
                this.putLog(member, number, (known) => told !== undefined && isNewer(known) ? logAtHeartbeat(known, told) : known);
                this.told.delete(`${member} ${number}`);
                const claim = logs.find(({ volume }) => volume === number);
                this.putLog(member, number, (known) => logAtHello(known, claim, durableLsn));
            }
        });
    }
    noteLogs(member, logs) {
        assertLogs(logs);
        for (const claim of logs)
            this.told.set(`${member} ${claim.volume}`, claim);
    }
    heartbeatLogs(member, logs) {
        assertLogs(logs);
        const known = new Set(this.catalog.volumes.volumes(member).map(({ number }) => number));
        const told = logs.filter(({ volume }) => known.has(volume));
        const isNews = told.some(({ volume, id, sequence }) => {
            const { logId, sequence: before } = this.catalog.doubts.doubt(member, volume);
            return logId !== id || before !== sequence;
        });
        if (!isNews)
            return;
        this.catalog.atomically(() => {
            for (const claim of told)
                this.putLog(member, claim.volume, (before) => logAtHeartbeat(before, claim));
        });
    }
    /** Only a comparison of the whole volume makes it synced in another generation. */
    doubtVolume(member, number) {
        this.catalog.atomically(() => this.putLog(member, number, (known) => ({ ...known, whole: true })));
    }
    putLog(member, number, change) {
        this.catalog.doubts.put({ member, number, ...change(this.catalog.doubts.doubt(member, number)) });
    }
    /** Records the generation's end, and a gap from `end.timeNs` on. */
    endGeneration(member, end) {
        assertNumbers(end.timeNs);
        this.catalog.generations.end(member, end.generation, end.lastLsn, end.timeNs, end.reason);
    }
    /**
     * Ends the generation before at `durableLsn` if nobody did, records the new one, and empties every base that was not
     * complete: records before it will not be applied to it.
     */
    beginGeneration(member, begin, durableLsn) {
        assertNumbers(begin.generation, begin.firstLsn);
        const { catalog } = this;
        const { generation, firstLsn, reason, volumes } = begin;
        catalog.atomically(() => {
            const before = catalog.generations.newest(member);
            if (before !== null) {
                const lastNs = catalog.segments.atOrBefore(member, durableLsn)?.lastTimeNs ?? 0n;
                const { coverage } = this.member(member);
                const coveredNs = coveredTime(coverage, before.firstLsn, catalog.eras.eras(member));
                const endNs = lastNs > coveredNs ? lastNs : coveredNs;
                catalog.generations.end(member, before.generation, durableLsn, endNs, reason);
            }
            const isNew = { lastLsn: null, endNs: null, endReason: '' };
            catalog.generations.begin({ member, generation, firstLsn, beginNs: this.nowNs(), reason, ...isNew }, volumes.map(({ number, size }) => ({
                member,
                generation,
                number,
                size,
                orderedLsn: null,
                orderedTimeNs: null,
            })));
            for (const { number } of volumes) {
                if (this.volume(member, number).baseState === 'BASE_COMPLETE')
                    continue;
                catalog.volumes.setBase(member, number, 'BASE_EMPTY', firstLsn - 1n, 0n);
            }
        });
    }
    /** The base is being synced, and everything below `offset` is on stable storage in it. */
    setSyncing(member, number, offset) {
        const { baseLsn } = this.volume(member, number);
        this.catalog.volumes.setBase(member, number, 'BASE_SYNCING', baseLsn, offset);
    }
    /**
     * The volume is consistent from `lsn` on; `timeNs` 0n: nobody said when. Its base is complete. `isWhole`: all of it was
     * copied or compared.
     */
    markSynced(member, generation, number, { lsn, timeNs, isWhole }) {
        const { baseLsn, size } = this.volume(member, number);
        this.catalog.atomically(() => {
            this.catalog.volumes.setBase(member, number, 'BASE_COMPLETE', baseLsn, size);
            this.catalog.generations.setOrdered(member, generation, number, lsn, timeNs);
            if (isWhole)
                this.putLog(member, number, (known) => ({ ...known, whole: false }));
        });
    }
    checkVolume(group, member, { number, uuid, name, size, blockSize }) {
        const mismatch = (what) => new AfterimageError('VOLUME_MISMATCH', `volume ${name} (${formatUuid(uuid)}): ${what}`);
        const known = this.catalog.volumes.volumeWithUuid(formatUuid(uuid));
        if (known !== null && (known.member !== member || known.number !== number)) {
            throw mismatch(`known as number ${known.number} of member ${known.member}`);
        }
        if (known !== null && (known.size !== size || known.blockSize !== blockSize)) {
            throw mismatch(`${size} bytes in blocks of ${blockSize}, known with ${known.size} in ${known.blockSize}`);
        }
        for (const { uuid: other } of this.catalog.members.members(group)) {
            for (const row of this.catalog.volumes.volumes(other)) {
                if (row.uuid === formatUuid(uuid))
                    continue;
                if (row.name === name)
                    throw mismatch(`the group has another volume of that name, ${row.uuid}`);
                if (other === member && row.number === number)
                    throw mismatch(`number ${number} is ${row.name}`);
            }
        }
    }
    putVolume(member, { number, uuid, name, size, blockSize }) {
        this.catalog.volumes.put({
            member,
            number,
            uuid: formatUuid(uuid),
            name,
            size,
            blockSize,
            baseState: 'BASE_EMPTY',
            baseLsn: 0n,
            syncOffset: 0n,
        });
    }
}
function assertLogs(logs) {
    for (const { id, sequence, basisLsn } of logs)
        assertNumbers(id, sequence, basisLsn);
}
/** Checked where a peer's numbers enter: beyond that the catalog would refuse them in the middle of something. */
function assertNumbers(...numbers) {
    for (const number of numbers) {
        if (number > NUMBER_MAX)
            throw new AfterimageError('MESSAGE_INVALID', `${number} is beyond all reason`);
    }
}
//# sourceMappingURL=session_store.js.map