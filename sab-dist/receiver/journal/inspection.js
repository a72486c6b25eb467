/**
 * What a member's journal directory really holds, found at the start. Directory and frames are the truth; the catalog
 * may lag behind them, and tells what must be there.
 *
 * Only bytes beyond the last acknowledged LSN may be a torn tail and are cut. A bad frame before it is damage: what
 * follows is kept, and the hole is reported.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { constants } from 'node:os';
import { toAfterimageError } from '../../proto/errors.js';
import { runFile, segmentFirstLsn } from '../store.js';
import { named } from '../../service/system_errors.js';
import { holesBetween } from './holes.js';
import { segmentInfo } from './segment_row.js';
const { EIO } = constants.errno;
/** Errors: IO_ERROR, SEGMENT_VERSION (never taken for damage: a newer program wrote it). */
export async function inspectJournal(options) {
    return inspectionOf(await findSegments(options), options);
}
/** Every segment of the directory, ascending. Errors: as inspectJournal. */
export async function findSegments(options) {
    const { directory, known, droppedLsn } = options;
    const names = new Set((await named(readdir(directory), directory)).sort());
    const rows = new Map(known.map((row) => [row.firstLsn, row]));
    const found = [];
    let before = null;
    for (const name of names) {
        const firstLsn = segmentFirstLsn(name);
        if (firstLsn === null || firstLsn <= droppedLsn)
            continue;
        const file = path.join(directory, name);
        const run = names.has(path.basename(runFile(file))) ? runFile(file) : null;
        const reading = continuing(before, await inspectSegment(file, run, rows.get(firstLsn) ?? null, options));
        found.push({ firstLsn, file, run, ...reading });
        before = reading.info ?? before;
    }
    return found;
}
/** A segment that stands where the one before it ends must follow that one's last frame: else it is of another history. */
function continuing(before, reading) {
    const { info, firstLink } = reading;
    if (before === null || info === null || firstLink === null)
        return reading;
    const isNext = before.generation === info.generation && before.lastLsn + 1n === info.firstLsn;
    if (!isNext || before.link === firstLink)
        return reading;
    const reason = `FRAME_LINK: the segment does not follow the one before it, ${before.firstLsn}`;
    return { ...reading, info: null, reason, isKept: true, hasRun: false };
}
/** What the segments found, and the catalog, say of the journal as a whole. */
export function inspectionOf(found, { known, ackedLsn, usedLsn }) {
    const segments = found.flatMap(({ info }) => (info === null ? [] : [info]));
    const runs = new Set(found.flatMap(({ firstLsn, hasRun }) => (hasRun ? [firstLsn] : [])));
    const reasons = new Map(found.flatMap(({ firstLsn, reason }) => (reason === '' ? [] : [[firstLsn, reason]])));
    const empty = found.filter(({ info }) => info === null);
    const holes = holesBetween(required(segments, known, ackedLsn), segments, reasons);
    const last = segments.at(-1);
    const isIntact = last !== undefined && !last.sealed && !holes.some((hole) => hole.firstLsn > last.lastLsn);
    // What was acknowledged is never removed, whatever has become of it: its disk may only have trouble today.
    const beyond = empty.filter(({ firstLsn }) => firstLsn > usedLsn && !holes.some((hole) => hole.firstLsn <= firstLsn && firstLsn <= hole.lastLsn));
    return {
        segments,
        runs,
        tail: isIntact ? last : null,
        holes,
        abandoned: beyond.filter(({ isKept }) => !isKept).map(({ file }) => file),
        unreadable: beyond.filter(({ isKept }) => isKept).map(({ file }) => file),
    };
}
async function inspectSegment(file, run, row, { identity, scan, isRunOf }) {
    const isIts = async (info) => run !== null && (await isRunOf(info, run));
    // A sealed segment never changes again: its size says that it is whole, and a run that it was read in full. Damage
    // since then is met when it is read (damage_watch.ts).
    if (row?.sealed === true && BigInt((await named(stat(file), file)).size) === row.bytes) {
        const info = segmentInfo(row, file);
        if (await isIts(info))
            return { info, reason: '', isKept: false, firstLink: null, hasRun: true };
    }
    const reading = await readSegment(file, identity, scan);
    const { info } = reading;
    return { ...reading, hasRun: info?.sealed === true && (await isIts(info)) };
}
/** A segment up to its last valid frame, read in full. Errors: as inspectJournal. */
export async function readSegment(file, { group, member }, scan) {
    try {
        const { info, stopReason, firstLink, ...owner } = await scan(file, true);
        if (!owner.group.equals(group) || !owner.member.equals(member)) {
            return { info: null, reason: 'FRAME_FOREIGN: a segment of another member', isKept: true, firstLink };
        }
        if (info.firstLsn !== segmentFirstLsn(path.basename(file))) {
            const reason = `FRAME_GAP: the segment of LSN ${info.firstLsn}, under another name`;
            return { info: null, reason, isKept: true, firstLink };
        }
        return { info: info.frames === 0 ? null : info, reason: stopReason, isKept: false, firstLink };
    }
    catch (thrown) {
        if (!isDamage(thrown))
            throw thrown;
        const { code, message } = toAfterimageError(thrown);
        return { info: null, reason: message, isKept: code !== 'SEGMENT_CORRUPT', firstLink: null };
    }
}
/** Whether an error says that the medium does not give what was written: EIO too, after all that the kernel tried. */
export function isDamage(thrown) {
    const { code, cause } = toAfterimageError(thrown);
    return code === 'SEGMENT_CORRUPT' || (code === 'IO_ERROR' && cause?.errno === EIO);
}
/** What must be there: all that the catalog saw, all that was acknowledged, and a generation without interruption. */
function required(segments, known, ackedLsn) {
    const ranges = known.map(({ firstLsn, lastLsn }) => ({ firstLsn, lastLsn }));
    segments.forEach((segment, index) => {
        const before = segments[index - 1];
        if (before?.generation === segment.generation) {
            ranges.push({ firstLsn: before.lastLsn + 1n, lastLsn: segment.firstLsn - 1n });
        }
    });
    const lastKnown = known.at(-1)?.lastLsn ?? 0n;
    const lastFound = segments.at(-1)?.lastLsn ?? 0n;
    const last = lastFound > lastKnown ? lastFound : lastKnown;
    if (ackedLsn > last)
        ranges.push({ firstLsn: last + 1n, lastLsn: ackedLsn });
    return ranges.filter(({ firstLsn, lastLsn }) => firstLsn <= lastLsn);
}
//# sourceMappingURL=inspection.js.map