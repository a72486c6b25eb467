import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, {} from 'tap';
import { AfterimageError } from '../../../proto/errors.js';
import { inspectJournal } from '../../../receiver/journal/inspection.js';
import { segmentRow } from '../../../receiver/journal/segment_row.js';
import { segmentFirstLsn, segmentName } from '../../../receiver/store.js';
const OWNER = { group: Buffer.alloc(16, 1), member: Buffer.alloc(16, 2) };
/** Of every frame's header: each follows every other. */
const LINK = 7;
/** A segment of generation 1 with the LSNs first…last, one frame each, in a file of 100 bytes. */
function segment(first, last, change = {}) {
    return {
        path: '',
        generation: 1n,
        firstLsn: first,
        lastLsn: last,
        firstTimeNs: first * 10n,
        lastTimeNs: last * 10n,
        firstEra: 1,
        lastEra: 1,
        frames: Number(last - first + 1n),
        records: last - first + 1n,
        rawBytes: 0n,
        bytes: 100n,
        link: LINK,
        sealed: true,
        ...change,
    };
}
async function inspect(test, { files, known, ackedLsn, usedLsn = ackedLsn, hasRuns = false }) {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-journal-'));
    test.teardown(() => rm(directory, { recursive: true, force: true }));
    const scans = new Map();
    for (const file of files) {
        const firstLsn = 'info' in file ? file.info.firstLsn : file.firstLsn;
        scans.set(firstLsn, file);
        await writeFile(path.join(directory, segmentName(firstLsn)), Buffer.alloc(100));
        if (hasRuns)
            await writeFile(path.join(directory, segmentName(firstLsn).replace('.seg', '.run')), '');
    }
    const scan = (file) => {
        const found = scans.get(segmentFirstLsn(path.basename(file)) ?? 0n);
        if (found === undefined)
            throw new Error(`${file} was never written`);
        return 'error' in found ? Promise.reject(found.error) : Promise.resolve(found);
    };
    const isRunOf = () => Promise.resolve(hasRuns);
    return inspectJournal({
        directory,
        identity: OWNER,
        known,
        ackedLsn,
        droppedLsn: 0n,
        usedLsn,
        scan,
        isRunOf,
    });
}
function whole(info) {
    return {
        ...{ info, ...OWNER, firstLink: LINK, fileBytes: 100n },
        ...{ stopReason: '', stopOffset: info.bytes },
    };
}
function cut(info) {
    return { ...whole(info), stopReason: 'frame: bad CRC' };
}
const row = (info) => segmentRow(info, 'm', false);
const active = { sealed: false, bytes: 60n };
t.test('a clean end: append goes on in the last segment', async (t) => {
    const first = segment(1n, 10n);
    const last = segment(11n, 20n, active);
    const found = await inspect(t, { files: [whole(first), whole(last)], known: [row(first)], ackedLsn: 20n });
    t.same(found.holes, []);
    t.match(found.tail, { firstLsn: 11n, lastLsn: 20n });
});
t.test('a frame that was never acknowledged is torn: it is cut, and nothing is missing', async (t) => {
    const found = await inspect(t, { files: [cut(segment(1n, 10n, active))], known: [], ackedLsn: 10n });
    t.same(found.holes, []);
    t.match(found.tail, { lastLsn: 10n });
});
t.test('an acknowledged frame that is bad is damage, and its segment is left as it is', async (t) => {
    const found = await inspect(t, { files: [cut(segment(1n, 10n, active))], known: [], ackedLsn: 12n });
    t.same(found.holes, [{ firstLsn: 11n, lastLsn: 12n, reason: 'frame: bad CRC' }]);
    t.equal(found.tail, null);
});
t.test('a bad frame in the middle: what follows is kept', async (t) => {
    const hurt = segment(1n, 4n, { bytes: 40n });
    const last = segment(11n, 20n, active);
    const known = [row(segment(1n, 10n, { bytes: 90n }))];
    const found = await inspect(t, { files: [cut(hurt), whole(last)], known, ackedLsn: 20n });
    t.same(found.holes, [{ firstLsn: 5n, lastLsn: 10n, reason: 'frame: bad CRC' }]);
    t.match(found.segments, [{ lastLsn: 4n }, { lastLsn: 20n }]);
    t.match(found.tail, { firstLsn: 11n });
});
t.test('a whole segment is gone, at the end of a generation', async (t) => {
    const next = segment(101n, 110n, { ...active, generation: 2n });
    const known = [row(segment(1n, 10n)), row(segment(11n, 20n)), row(next)];
    const files = [whole(segment(1n, 10n)), whole(next)];
    const found = await inspect(t, { files, known, ackedLsn: 110n });
    t.same(found.holes, [{ firstLsn: 11n, lastLsn: 20n, reason: 'a segment is missing' }]);
});
t.test('numbers between two generations were never used: they are not missing', async (t) => {
    const files = [whole(segment(1n, 10n)), whole(segment(101n, 110n, { ...active, generation: 2n }))];
    const found = await inspect(t, { files, known: [row(segment(1n, 10n))], ackedLsn: 110n });
    t.same(found.holes, []);
});
t.test('a segment that was being created when the power went', async (t) => {
    const error = new AfterimageError('SEGMENT_CORRUPT', 'bad header');
    const files = [whole(segment(1n, 10n)), { firstLsn: 11n, error }];
    const known = [row(segment(1n, 10n))];
    const found = await inspect(t, { files, known, ackedLsn: 10n });
    t.same(found.holes, []);
    t.same(found.abandoned.map((file) => path.basename(file)), [segmentName(11n)]);
    const hurt = await inspect(t, { files, known, ackedLsn: 12n });
    t.match(hurt.holes, [{ firstLsn: 11n, lastLsn: 12n, reason: 'bad header' }]);
    t.same(hurt.abandoned, [], 'what was acknowledged is never removed');
});
/**
 * Symptom: the only segment of a generation's end had lost its header, its damage was recorded and a new generation had
 * begun; the start after that took the file for an interrupted creation and removed it, with all frames behind the header.
 */
t.test('a segment without its header that an earlier generation ended with is kept', async (t) => {
    const error = new AfterimageError('SEGMENT_CORRUPT', 'bad header');
    const next = segment(101n, 110n, { ...active, generation: 2n });
    const files = [whole(segment(1n, 10n)), { firstLsn: 11n, error }, whole(next)];
    const known = [row(segment(1n, 10n)), row(next)];
    const found = await inspect(t, { files, known, ackedLsn: 110n });
    t.same([found.holes, found.abandoned, found.unreadable], [[], [], []]);
    const ended = [whole(segment(1n, 10n)), { firstLsn: 11n, error }];
    const before = await inspect(t, {
        files: ended,
        known: [row(segment(1n, 10n))],
        ackedLsn: 10n,
        usedLsn: 20n,
    });
    t.same(before.abandoned, [], 'nor before the next generation has a record');
});
t.test('a new segment that the disk does not give may hold what the agent knows to be durable', async (t) => {
    const error = new AfterimageError('IO_ERROR', 'read', { cause: Object.assign(new Error(), { errno: 5 }) });
    const files = [whole(segment(1n, 10n)), { firstLsn: 11n, error }];
    const found = await inspect(t, { files, known: [row(segment(1n, 10n))], ackedLsn: 10n });
    t.same([found.holes, found.abandoned], [[], []]);
    t.same(found.unreadable.map((file) => path.basename(file)), [segmentName(11n)]);
});
t.test('a segment of a newer program is no damage', async (t) => {
    const error = new AfterimageError('SEGMENT_VERSION', 'version 2');
    const files = [{ firstLsn: 1n, error }];
    await t.rejects(inspect(t, { files, known: [], ackedLsn: 0n }), { code: 'SEGMENT_VERSION' });
});
t.test('a sealed segment is read again unless a run says that it once was, in full', async (t) => {
    const known = [row(segment(1n, 10n)), row(segment(11n, 20n))];
    const files = [whole(segment(1n, 10n)), cut(segment(11n, 14n, { bytes: 40n, sealed: false }))];
    const read = await inspect(t, { files, known, ackedLsn: 20n });
    t.same(read.holes, [{ firstLsn: 15n, lastLsn: 20n, reason: 'frame: bad CRC' }]);
    t.same([...read.runs], []);
    const trusted = await inspect(t, { files, known, ackedLsn: 20n, hasRuns: true });
    t.same(trusted.holes, []);
    t.same([...trusted.runs], [1n, 11n]);
});
t.test('a segment of another member is no part of this journal, whatever LSNs it holds', async (t) => {
    // It was taken for this one's: its records were shown as those of another volume.
    const foreign = { ...whole(segment(11n, 20n)), member: Buffer.alloc(16, 9) };
    const files = [whole(segment(1n, 10n)), foreign, whole(segment(21n, 30n, active))];
    const found = await inspect(t, { files, known: [], ackedLsn: 30n });
    t.match(found.holes, [{ firstLsn: 11n, lastLsn: 20n, reason: /^FRAME_FOREIGN/ }]);
    t.same([found.abandoned, found.unreadable], [[], []], 'where something was acknowledged, it stays');
    const beyond = await inspect(t, { files: [whole(segment(1n, 10n)), foreign], known: [], ackedLsn: 10n });
    t.match([beyond.holes, beyond.abandoned], [[], []]);
    t.same(beyond.unreadable.map((file) => path.basename(file)), [segmentName(11n)], 'it is put aside: it may be all that its owner has');
});
t.test('a segment that stands in the right place and follows another frame is of another history', async (t) => {
    const stray = { ...whole(segment(11n, 20n)), firstLink: LINK + 1 };
    const files = [whole(segment(1n, 10n)), stray, whole(segment(21n, 30n, active))];
    const found = await inspect(t, { files, known: [], ackedLsn: 30n });
    t.match(found.holes, [{ firstLsn: 11n, lastLsn: 20n, reason: /^FRAME_LINK/ }]);
    t.match(found.segments, [{ firstLsn: 1n }, { firstLsn: 21n }]);
});
//# sourceMappingURL=inspection.test.js.map