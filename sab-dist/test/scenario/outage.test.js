/**
 * The receiver is away for longer than the ring lasts (R5, R6, R7): production goes on without an error, the instants
 * that were not captured are graded, a resync through the journal runs by itself, and history from before the outage
 * stays what it was.
 */
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { afterimage } from './site.js';
import { socketSite, writePattern } from './socket_site.js';
t.setTimeout(600_000);
const GROUP = 'outage';
const BYTES = 64 << 20;
t.test('an outage longer than the ring: production goes on, the gap is graded, history before it survives', async (t) => {
    const options = { group: GROUP, ringBytes: '8MiB' };
    const { site, backing, uri } = await socketSite(t, 'outage', BYTES, options);
    const write = (seed, megabytes) => command('fio', [
        '--name=load',
        '--ioengine=nbd',
        `--uri=${uri}`,
        '--rw=randwrite',
        '--bs=16k',
        '--iodepth=8',
        `--io_size=${megabytes}M`,
        `--size=${BYTES}`,
        `--randseed=${seed}`,
        '--verify=crc32c',
        '--verify_fatal=1',
        '--verify_state_save=0',
    ]);
    await write(1, 4);
    const before = await site.settled();
    const beforeImage = await readFile(backing);
    await site.receiver.stop();
    await write(2, 40);
    const tracking = site.waitFor('tracking', 30, ({ state }) => state === 'tracking');
    const told = await tracking.catch((thrown) => void t.comment(String(thrown)));
    t.ok(told, 'the status says that history is not captured');
    const outageNs = BigInt(Date.now()) * 1000000n;
    await write(3, 4);
    await site.receiver.start();
    await site.waitFor('in a stream again', 60, ({ generation, state }) => generation !== before.generation || state === 'protected');
    const early = await site.recovered('disk', `lsn:${before.durableLsn}`).catch(String);
    if (typeof early === 'string')
        t.comment(early);
    const isKept = t.ok(typeof early !== 'string' && early.equals(beforeImage), 'a new generation takes nothing away (R6)');
    if (!isKept)
        return; // nothing that follows can go well
    const after = await site.settled();
    t.not(after.generation, before.generation, 'continuity could not be proven: a new generation');
    const timeline = await site.ask('timeline', GROUP);
    const grades = timeline.spans.map((span) => span.grade);
    t.ok(grades.includes('gap'), `the timeline shows the gap: ${grades.join(', ')}`);
    t.equal(grades.at(-1), 'ordered', 'and ends ordered');
    const gap = timeline.spans.find((span) => span.grade === 'gap');
    t.ok(gap && BigInt(gap.beginNs) < outageNs && BigInt(gap.endNs) > outageNs, 'the gap covers the outage');
    const recovered = await site.recovered('disk', `lsn:${before.durableLsn}`);
    t.ok(recovered.equals(beforeImage), 'the point before the outage is what it was (R6)');
    const instant = new Date(Number(outageNs / 1000000n)).toISOString();
    const refused = await afterimage(['export', GROUP, '--at', instant, '--control', site.receiverControl, '--json'], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    t.match(refused.stderr, /POINT_GRADE/, 'an instant inside the gap is refused');
    t.equal(refused.status, 4);
    const latest = await site.recovered('disk', 'latest');
    t.equal(await site.agent.stop(), 0);
    t.ok(latest.equals(await readFile(backing)), 'source and replica are equal again');
});
t.test('a receiver that comes back before the ring is full leaves no gap', async (t) => {
    const { site, backing, uri } = await socketSite(t, 'blink', BYTES, { group: GROUP, ringBytes: '64MiB' });
    // Before anything is written there is no point to name by its LSN.
    await command('qemu-io', ['-f', 'raw', '-c', 'write -P 0x99 4M 1M', '-c', 'flush', uri]);
    const ready = await site.settled();
    for (const signal of ['SIGTERM', 'SIGKILL']) {
        const { durableLsn } = await site.agentGroup();
        const before = await readFile(backing);
        await site.receiver.kill(signal);
        await site.receiver.stop();
        await command('qemu-io', [
            '-f',
            'raw',
            '-c',
            `write -P 0x${signal === 'SIGTERM' ? '11' : '22'} 1M 8M`,
            '-c',
            'flush',
            uri,
        ]);
        await site.receiver.start();
        const group = await site.settled();
        t.equal(group.generation, ready.generation, `${signal} of the receiver: the stream went on`);
        const production = await readFile(backing);
        t.notOk(production.equals(before));
        t.ok((await site.recovered('disk', 'latest')).equals(production), 'to what production holds');
        t.ok((await site.recovered('disk', `lsn:${durableLsn}`)).equals(before), 'from what it held before');
    }
    const timeline = await site.ask('timeline', GROUP);
    t.notOk(timeline.spans.some((span) => span.grade === 'gap'), 'no gap');
});
t.test('a clean stop of the agent leaves nothing in doubt, a killed one is compared and resynced', async (t) => {
    const { site, backing, uri, ready } = await socketSite(t, 'restart', BYTES, { group: GROUP });
    await writePattern(uri, '0x33');
    t.equal(await site.agent.stop(), 0);
    await site.agent.start();
    const clean = await site.settled();
    t.equal(clean.generation, ready.generation, 'after a clean stop the generation goes on');
    const before = await readFile(backing);
    await writePattern(uri, '0x44', 8);
    await site.agent.kill();
    await site.agent.start();
    const killed = await site.settled();
    t.not(killed.generation, ready.generation, 'after a kill the generation rises');
    t.equal(await site.agent.stop(), 0);
    const production = await readFile(backing);
    t.notOk(production.equals(before));
    t.ok((await site.recovered('disk', 'latest')).equals(production), 'and source and replica are equal');
    t.ok((await site.recovered('disk', `lsn:${clean.durableLsn}`)).equals(before), 'the point before the kill is what it was');
});
//# sourceMappingURL=outage.test.js.map