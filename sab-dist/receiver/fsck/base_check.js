/** Base images: that they are there, whole, and what was written; what a repair makes of those that are not. */
import { stat } from 'node:fs/promises';
import { named } from '../../service/system_errors.js';
import { BaseAccess } from '../base_access.js';
import { BaseDamage } from '../base_damage.js';
import { pointTiles } from '../journal/point_tiles.js';
import { segmentInfo } from '../journal/segment_row.js';
import { Points } from '../points.js';
import { finding } from './finding.js';
const PIECE_BYTES = 64n * 1024n * 1024n;
/** `catalog`: a copy. Errors: IO_ERROR, and what keeps a point from being opened. */
export async function checkBase(parts, member, volume, place, segments) {
    const file = parts.store.baseFile(member.group, member.uuid, volume.uuid);
    const checked = { volume, file, findings: [], badOffsets: [], bytes: await sizeOf(file) };
    const { findings, bytes } = checked;
    const say = (code, text) => void findings.push(finding(code, place, file, text));
    if (volume.baseState === 'BASE_EMPTY')
        return checked;
    const within = segments.find(({ firstLsn, lastLsn }) => firstLsn <= volume.baseLsn && volume.baseLsn < lastLsn);
    if (within !== undefined) {
        say('BASE_LSN', `the base of ${volume.name} ends at LSN ${volume.baseLsn}, in the middle of ${within.path}`);
    }
    const size = volume.baseState === 'BASE_COMPLETE' ? volume.size : volume.syncOffset;
    const sizes = `${bytes ?? 0n} bytes, where ${volume.name} has ${volume.size}`;
    if (bytes === null)
        say('BASE_LOST', 'it is not there');
    else if (bytes < size)
        say('BASE_SHORT', sizes);
    else if (bytes > volume.size)
        say('BASE_LONG', sizes);
    // One that is being written is not yet what it will be.
    if (bytes !== null && volume.baseState === 'BASE_COMPLETE') {
        const isSummed = await readBase(parts, checked);
        if (checked.badOffsets.length > 0 && bytes >= size) {
            const [first] = checked.badOffsets;
            const isKnown = await baseDamage(parts, member).isRecorded(file, checked.badOffsets);
            const count = checked.badOffsets.length;
            say(isKnown ? 'BASE_DAMAGE_KNOWN' : 'BASE_BLOCK', `damaged blocks: ${count}, the first at byte ${first ?? 0n}`);
        }
        if (!isSummed)
            say('BASE_UNSUMMED', 'blocks of it have no checksum');
    }
    return checked;
}
/** Whether every block has a checksum. */
async function readBase({ native, begin, done }, checked) {
    const { file, volume } = checked;
    let isSummed = true;
    for (let offset = 0n; offset < volume.size; offset += PIECE_BYTES) {
        begin(file);
        const { badOffsets, unsummed, hasSums, bytes } = await native.scrubBase(file, volume.size, offset, PIECE_BYTES);
        checked.badOffsets.push(...badOffsets);
        if (!hasSums || unsummed > 0n)
            isSummed = false;
        await done(bytes);
    }
    return isSummed;
}
/**
 * After the member's journal was repaired: marks and records what is lost of a base, and gives checksums to what has none.
 * Which findings it has dealt with. Errors: JOURNAL_FULL, JOURNAL_IO, IO_ERROR.
 */
export async function repairBase(parts, member, { volume, file, findings, bytes, badOffsets }) {
    const { native } = parts;
    const has = (code) => findings.some((one) => one.code === code);
    const offsets = [...badOffsets];
    if (volume.baseState === 'BASE_COMPLETE' && (has('BASE_LOST') || has('BASE_SHORT'))) {
        await native.loseBase(file, bytes ?? 0n, volume.size);
        for (let offset = 0n; offset < volume.size; offset += PIECE_BYTES) {
            offsets.push(...(await native.scrubBase(file, volume.size, offset, PIECE_BYTES)).badOffsets);
        }
    }
    if (has('BASE_UNSUMMED'))
        await native.completeBase(file);
    if (offsets.length > 0 && !has('BASE_DAMAGE_KNOWN')) {
        await baseDamage(parts, member).record(file, offsets);
    }
    return volume.baseState === 'BASE_COMPLETE'
        ? ['BASE_LOST', 'BASE_SHORT', 'BASE_BLOCK', 'BASE_UNSUMMED']
        : ['BASE_UNSUMMED'];
}
function baseDamage(parts, member) {
    const journal = offlineJournal(parts, member);
    const access = new BaseAccess();
    return new BaseDamage({ ...parts, access, points: offlinePoints(parts, access), journal: () => journal });
}
/** Points of a store whose receiver does not run: the catalog has everything. */
function offlinePoints(parts, access) {
    const { catalog } = parts;
    return new Points({
        ...parts,
        access,
        nowNs: () => 0n,
        journals: {
            refresh: () => undefined,
            tiles: (uuid, baseLsn, lsn) => {
                const member = catalog.members.member(uuid);
                return member === null ? [] : pointTiles(parts, member, catalog.segments.between(uuid, baseLsn, lsn));
            },
        },
    });
}
function offlineJournal({ catalog, store, native }, { group, uuid }) {
    return {
        durableLsn: catalog.segments.last(uuid)?.lastLsn ?? 0n,
        persist: () => undefined,
        stop: () => Promise.resolve(),
        timeAt: async (lsn) => {
            const row = catalog.segments.atOrBefore(uuid, lsn);
            if (row === null || row.lastLsn < lsn)
                return null;
            return native.timeAtLsn(segmentInfo(row, store.segmentFile(group, uuid, row.firstLsn)), lsn);
        },
    };
}
/** Null: there is none. */
async function sizeOf(file) {
    try {
        return (await stat(file, { bigint: true })).size;
    }
    catch (thrown) {
        if (thrown.code === 'ENOENT')
            return null;
        return named(Promise.reject(thrown), file);
    }
}
//# sourceMappingURL=base_check.js.map