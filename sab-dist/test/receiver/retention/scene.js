/** A history of several segments, and the claim that every point that is held is what the volume was then. */
import { randomBytes, randomInt } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { formatTime } from '../../../proto/time.js';
import { replayAt } from '../../replay/replay.js';
import { journalDirectory, recovered, SIZE } from '../synced_scene.js';
const KIB = 1024;
const WAIT_MS = 30_000;
/** Everything may go at once; or nothing at all. */
export const SHORT = 'retention = { window = "1s", floor = "1s", roll_forward_rate_max = "8MiB" }';
export const LONG = 'retention = { window = "3650d" }';
/** From here on nobody writes but a test that wants to. */
export const UNTOUCHED = SIZE - 64 * KIB;
/** Writes, zeroes and overlaps, until so many more segments have begun; nothing may go meanwhile. */
export async function fill(scene, segments) {
    const before = await segmentCount(scene);
    let last = 0n;
    while ((await segmentCount(scene)) < before + segments)
        last = await pour(scene);
    return last;
}
/** About 1 MiB. */
export async function pour({ agent, stream }) {
    let last = 0n;
    for (let index = 0; index < 5; index += 1) {
        const length = index === 0 ? 800 * KIB : 512 * randomInt(1, 300);
        const offset = 512 * randomInt(0, (UNTOUCHED - length) / 512);
        last = await agent.write(offset, index === 3 ? Buffer.alloc(length) : randomBytes(length));
    }
    for (const frame of await agent.framesUpTo(last))
        stream.ship(frame);
    await stream.hearAck(last);
    agent.released(last);
    return last;
}
/** The agent marks the checkpoint that the receiver asks it for: here and now. */
export async function answerCheckpoint({ agent, stream }) {
    const { requestId, name } = await stream.hear('checkpointRequest');
    const { lsn, timeNs } = agent.position();
    stream.say({ checkpoint: { requestId, name, lsn, timeNs } });
}
export async function segmentCount(scene) {
    const names = await readdir(journalDirectory(scene));
    return names.filter((name) => name.endsWith('.seg')).length;
}
/** Resolves when `claim` holds. */
export async function until(what, claim) {
    const deadline = Date.now() + WAIT_MS;
    while (!(await claim())) {
        if (Date.now() > deadline)
            throw new Error(`not within ${WAIT_MS} ms: ${what}`);
        await sleep(50);
    }
}
export async function oldestLsn({ receiver }) {
    const { spans } = await receiver.call('timeline', { group: 'db' });
    return spans[0]?.firstLsn ?? 0n;
}
/** What the volume held after the records up to `lsn`, as the agent wrote them. */
export function stateAt({ agent }, lsn) {
    const known = [...agent.states.keys()].filter((each) => each <= lsn).sort((a, b) => (a < b ? -1 : 1));
    const state = agent.states.get(known.at(-1) ?? -1n);
    if (state === undefined)
        throw new Error(`nothing is known of LSN ${lsn}`);
    return state;
}
/** Every LSN that the timeline calls ordered is what was there, and an older one is refused with the oldest that is held. */
export async function checkHistory(t, scene) {
    const { spans } = await scene.receiver.call('timeline', { group: 'db' });
    const ordered = spans.filter(({ grade }) => grade === 'ordered');
    const first = spans[0]?.firstLsn ?? 0n;
    const known = [...scene.agent.states.keys()];
    const points = [first, ...known].filter((lsn) => ordered.some(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn));
    const wrong = [];
    for (const lsn of points) {
        const content = await recovered(scene, `lsn:${lsn}`);
        if (!content.equals(stateAt(scene, lsn)))
            wrong.push(lsn);
        const { timeNs } = await scene.receiver.call('point', { group: 'db', point: `lsn:${lsn}` });
        const named = await scene.receiver.call('point', { group: 'db', point: formatTime(timeNs) });
        if (named.lsn !== lsn)
            wrong.push(lsn);
    }
    t.ok(points.length > 0, `${points.length} points are held`);
    t.same(wrong, [], 'every one of them is what the volume was');
    const older = known.find((lsn) => lsn < first);
    if (older === undefined || first === 1n)
        return;
    await t.rejects(recovered(scene, `lsn:${older}`), {
        code: 'POINT_EXPIRED',
        message: new RegExp(`oldest point is LSN ${first}, `),
    });
    const begin = spans[0]?.beginNs ?? 0n;
    await t.rejects(recovered(scene, formatTime(begin - 1n)), { code: 'POINT_EXPIRED' });
}
/** As checkHistory, by the independent replay of the files as they lie there; no receiver runs. */
export async function checkFiles(t, scene) {
    const { baseLsn, oldest, orderedLsn } = readCatalog(scene.receiver.store);
    const known = [...scene.agent.states.keys()];
    const points = known.filter((lsn) => lsn >= oldest && lsn > baseLsn && lsn >= orderedLsn);
    const directory = path.dirname(journalDirectory(scene));
    const wrong = [];
    let seen = 0;
    for await (const { lsn, contents } of replayAt(directory, [0], points, new Map([[0, baseLsn]]))) {
        seen += 1;
        if (contents.get(0)?.equals(stateAt(scene, lsn)) !== true)
            wrong.push(lsn);
    }
    t.equal(seen, points.length);
    t.same(wrong, [], `${seen} points, replayed over a base at ${baseLsn}`);
}
/** Nothing is under way: what was given up is in the bases, and its files are gone. */
export async function isSettled(scene) {
    const { oldest, dropped } = readCatalog(scene.receiver.store);
    const names = await readdir(journalDirectory(scene));
    return oldest === dropped && names.every((name) => BigInt(name.slice(0, 20)) > dropped);
}
function readCatalog(store) {
    const database = new Database(path.join(store, 'catalog.sqlite'), { readonly: true });
    try {
        database.defaultSafeIntegers(true);
        const one = (sql) => database.prepare(sql).pluck().get() ?? 0n;
        return {
            baseLsn: one('SELECT base_lsn FROM volumes'),
            oldest: one('SELECT oldest_lsn FROM held_windows'),
            dropped: one('SELECT dropped_lsn FROM held_windows'),
            orderedLsn: one('SELECT max(ordered_lsn) FROM generation_volumes WHERE generation = 1'),
        };
    }
    finally {
        database.close();
    }
}
//# sourceMappingURL=scene.js.map