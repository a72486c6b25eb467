import { randomUUID } from 'node:crypto';
import path from 'node:path';
import pino from 'pino';
import t, {} from 'tap';
import { BaseAccess } from '../../../receiver/base_access.js';
import { Catalog } from '../../../receiver/catalog/catalog.js';
import { NOT_COVERED } from '../../../receiver/catalog/members.js';
import { MemberJournal } from '../../../receiver/journal/journal.js';
import { RunBuilds } from '../../../receiver/journal/runs.js';
import { Store } from '../../../receiver/store.js';
const FRAME_BYTES = 160;
function frame(firstLsn, lastLsn = firstLsn) {
    const bytes = Buffer.alloc(FRAME_BYTES);
    bytes.writeBigUInt64LE(firstLsn, 64);
    bytes.writeBigUInt64LE(lastLsn, 72);
    bytes.writeBigUInt64LE(firstLsn, 80);
    bytes.writeBigUInt64LE(firstLsn, 88);
    return bytes;
}
function segment(firstLsn, lastLsn, sealed) {
    const times = { firstTimeNs: firstLsn, lastTimeNs: lastLsn, firstEra: 0, lastEra: 0 };
    const size = { frames: 1, records: lastLsn - firstLsn + 1n, rawBytes: 0n, bytes: 8192n, link: 1 };
    return { path: '', generation: 1n, firstLsn, lastLsn, ...times, ...size, sealed };
}
/** A journal whose writer gives these answers, one after the other. */
async function opened(test, answers) {
    const store = await Store.init(path.join(test.testdir(), 'store'), randomUUID());
    const catalog = Catalog.open(store.catalogFile);
    test.teardown(() => catalog.close());
    const group = randomUUID();
    const member = {
        ...{ uuid: randomUUID(), group, host: 'db1', epoch: 1n, instance: Buffer.alloc(16) },
        ...{ ackedLsn: 0n, coverage: NOT_COVERED },
    };
    catalog.members.addGroup({ uuid: group, name: 'db' });
    catalog.members.putMember(member);
    await store.createMember(group, member.uuid);
    const writer = {
        append: () => Promise.resolve(answers.shift() ?? { durableLsn: 0n, changed: [] }),
        resume: () => undefined,
        beginGeneration: () => Promise.reject(new Error('not here')),
        position: () => ({ epoch: 1n, generation: 1n, lastLsn: 0n, link: 0 }),
        close: () => Promise.resolve(),
    };
    const log = pino({ level: 'silent' });
    const journal = await MemberJournal.open({
        ...{ catalog, store, log, segmentBytes: 1n << 26n },
        native: {
            openJournal: () => Promise.resolve(writer),
            scanSegment: () => Promise.reject(new Error('there is none')),
            timeAtLsn: () => Promise.resolve(0n),
            isRunOf: () => Promise.resolve(false),
        },
        headroomBytes: 0n,
        access: new BaseAccess(),
        runs: new RunBuilds({ catalog, store, log, buildRun: () => Promise.resolve() }),
    }, member);
    return { journal, catalog };
}
t.test('a segment that was sealed while the catalog could not be written is in it as soon as it can', async (t) => {
    // The store was full at that moment: the segment's last second was in no tile, and later points were opened without
    // its records and still called `ordered`.
    const { journal, catalog } = await opened(t, [
        { durableLsn: 10n, changed: [segment(1n, 10n, false)] },
        { durableLsn: 21n, changed: [segment(1n, 20n, true), segment(21n, 21n, false)] },
        { durableLsn: 30n, changed: [segment(21n, 30n, false)] },
    ]);
    await journal.append(frame(1n));
    journal.persist();
    const advance = catalog.members.advance.bind(catalog.members);
    catalog.members.advance = () => {
        throw new Error('database or disk is full');
    };
    await t.rejects(journal.append(frame(11n)), { message: 'database or disk is full' });
    // What the disk did not take is known all the same: tiles() had to write, and nothing of a full store was readable.
    const tiles = () => journal.tiles(0n, 30n).map((tile) => [tile.segment.firstLsn, tile.segment.lastLsn]);
    t.same(tiles(), [
        [1n, 20n],
        [21n, 21n],
    ]);
    catalog.members.advance = advance;
    await journal.append(frame(22n));
    t.same(tiles(), [
        [1n, 20n],
        [21n, 30n],
    ]);
});
t.test('the eras of a group commit are in the catalog before its first frame is acknowledged', async (t) => {
    // One answer covers all of its frames: a crash behind the first acknowledgement lost where the second one's era began.
    let release = () => undefined;
    const held = new Promise((resolve) => (release = resolve));
    const { journal, catalog } = await opened(t, [
        { durableLsn: 30n, changed: [segment(1n, 30n, false)] },
        held,
        held,
    ]);
    const later = frame(11n, 20n);
    later.writeUInt32LE(2, 96);
    const latest = frame(21n, 30n);
    latest.writeUInt32LE(3, 96);
    const first = journal.append(frame(1n, 10n));
    const rest = [journal.append(later), journal.append(latest)];
    await first;
    t.match(catalog.eras.eras(journal.member.uuid), [
        { era: 2, firstLsn: 11n, previousTimeNs: 1n },
        { era: 3, firstLsn: 21n, previousTimeNs: 11n },
    ]);
    release({ durableLsn: 30n, changed: [] });
    await Promise.all(rest);
});
//# sourceMappingURL=journal.test.js.map