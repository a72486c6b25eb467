/**
 * Up to which time it is known that nothing is missing, where the host's clock is wrong for a while.
 *
 * One heartbeat from a clock that was a year ahead made everything covered for a year: instants in which acknowledged
 * writes were lost, and half a resync, were then `ordered`.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { formatTime } from '../../proto/time.js';
import { coveredTime } from '../../receiver/coverage.js';
import { ScriptedStream } from './scripted_agent.js';
import { grades, synced, writeMore } from './synced_scene.js';
const SECOND_NS = 1000000000n;
const YEAR_NS = 365n * 86400n * SECOND_NS;
/** Everything up to `shippedLsn` was sent, everything until `nowNs` captured. */
function beat({ agent, stream }, shippedLsn, nowNs) {
    const { lsn, timeNs } = agent.position();
    const ring = { oldestTimeNs: 0n, ringUsedBytes: 0n, ringBytes: 1n, state: 'protected', logs: [] };
    stream.say({ heartbeat: { capturedLsn: lsn, capturedTimeNs: timeNs, shippedLsn, nowNs, ...ring } });
}
/** What the time is, "" while it is none that is known. */
async function at({ receiver }, timeNs) {
    return receiver.call('point', { group: 'db', point: formatTime(timeNs) }).catch((thrown) => {
        if (thrown.code === 'POINT_UNKNOWN')
            return null;
        throw thrown;
    });
}
async function until(claim) {
    for (const deadline = Date.now() + 10_000; !(await claim()); await sleep(10)) {
        if (Date.now() > deadline)
            throw new Error('it never came');
    }
}
t.test('coverage falls when the clock is set back, and is that of its own era', async (t) => {
    const scene = await synced(t);
    const { agent, stream } = scene;
    const [last = 0n] = (await writeMore(scene, 3)).slice(-1);
    const { timeNs } = agent.position();
    beat(scene, last, timeNs + YEAR_NS);
    await until(async () => (await at(scene, timeNs + YEAR_NS / 2n))?.grade === 'ordered');
    const next = await agent.write(0, randomBytes(512));
    beat(scene, last, timeNs + 5n * SECOND_NS);
    await until(async () => (await at(scene, timeNs + YEAR_NS / 2n)) === null);
    for (const frame of await agent.framesUpTo(next))
        stream.ship(frame);
    await stream.hearAck(next);
    await until(async () => (await at(scene, timeNs + 2n * SECOND_NS)) !== null);
    t.equal(await at(scene, timeNs + YEAR_NS / 2n), null, 'and it has fallen for good');
    t.match(await at(scene, timeNs + 2n * SECOND_NS), { grade: 'ordered' });
    t.equal(coveredTime({ lsn: 10n, timeNs: 99n }, 1n, []), 99n);
    t.equal(coveredTime({ lsn: 10n, timeNs: 99n }, 11n, []), 99n, 'a generation without a record yet');
    t.equal(coveredTime({ lsn: 10n, timeNs: 99n }, 12n, []), 0n, 'said of the generation before');
    const era = { member: 'm', era: 2, firstTimeNs: 0n, previousTimeNs: 0n };
    t.equal(coveredTime({ lsn: 10n, timeNs: 99n }, 1n, [{ ...era, firstLsn: 11n }]), 0n, 'another clock since');
    t.equal(coveredTime({ lsn: 11n, timeNs: 99n }, 1n, [{ ...era, firstLsn: 11n }]), 99n);
});
t.test('a generation that was covered by a clock ahead: what follows has its own grades', async (t) => {
    const scene = await synced(t);
    const { receiver, agent } = scene;
    const [last = 0n] = (await writeMore(scene, 3)).slice(-1);
    const { timeNs } = agent.position();
    beat(scene, last, timeNs + YEAR_NS);
    await until(async () => (await at(scene, timeNs + YEAR_NS / 2n)) !== null);
    // The host is started anew, with its clock right again; what it wrote meanwhile is lost.
    const stream = new ScriptedStream(receiver.address);
    t.teardown(() => stream.close());
    const epoch = agent.identity.epoch + 1n;
    stream.say({ hello: agent.hello({ epoch, instance: randomBytes(16), generation: 1n, durableLsn: last }) });
    await stream.hear('welcome');
    agent.endStream();
    await agent.end();
    agent.identity.epoch = epoch;
    const firstLsn = last + 1n;
    const begin = { generation: 2n, firstLsn, reason: 'AGENT_RESTARTED', volumes: [agent.info] };
    stream.say({ generationBegin: begin });
    await stream.hear('generationAccepted');
    t.match((await grades(scene)).slice(-3), [/^ordered/, 'gap 0-0', /^syncing/]);
    t.notMatch(await at(scene, timeNs + SECOND_NS / 1000n), { grade: 'ordered' }, 'in the gap');
    agent.begin(2n, firstLsn);
    const resync = { agent, stream };
    const lsns = await writeMore(resync, 5);
    const now = agent.position().timeNs;
    t.match(await at(scene, now), { lsn: lsns.at(-1), grade: 'syncing' }, 'half a resync is none');
    t.match(await at(scene, timeNs + YEAR_NS / 2n), { grade: 'syncing' }, 'nobody has seen that time');
    // A moment after the last record nobody can vouch for any more: the clock that did was wrong.
    const behind = await at(scene, timeNs);
    t.match(behind, { lsn: last, grade: 'gap' });
    t.match(await at(scene, behind?.timeNs ?? 0n), { lsn: last, grade: 'ordered' }, 'what was ordered stays so');
});
//# sourceMappingURL=coverage.test.js.map