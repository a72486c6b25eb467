import { randomBytes } from 'node:crypto';
import { mkdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { segmentName } from '../../receiver/store.js';
import { ScriptedStream } from './scripted_agent.js';
import { exportOf, journalDirectory, recovered, ringFull, synced, writeMore } from './synced_scene.js';
t.test('a journal whose disk had failed is opened anew by the next session', async (t) => {
    // Only a restart of the receiver brought it back: every session until then was refused with JOURNAL_IO.
    const scene = await synced(t);
    const { receiver, agent, stream } = scene;
    const [last = 0n] = (await writeMore(scene, 5)).slice(-1);
    const before = agent.present;
    const { firstLsn } = await ringFull(scene, last);
    agent.begin(2n, firstLsn);
    // The segment of the first frame cannot be made.
    const obstacle = path.join(journalDirectory(scene), segmentName(firstLsn));
    await mkdir(obstacle);
    const lsn = await agent.write(0, randomBytes(512));
    const frames = await agent.framesUpTo(lsn);
    for (const frame of frames)
        stream.ship(frame);
    t.match(await stream.hear('refused'), { code: 'JOURNAL_IO' });
    const comeBack = () => {
        const again = new ScriptedStream(receiver.address);
        t.teardown(() => again.close());
        again.say({ hello: agent.hello({ generation: 2n, durableLsn: firstLsn - 1n }) });
        return again;
    };
    t.match(await comeBack().hear('refused'), { code: 'IO_ERROR' }, 'the disk still fails');
    t.ok(before.equals(await recovered(scene, `lsn:${last}`)), 'what is there can be had meanwhile');
    await receiver.call('exportClose', await receiver.call('exportOpen', exportOf(`lsn:${last}`)));
    await rmdir(obstacle);
    const healed = comeBack();
    t.match(await healed.hear('welcome'), { generation: 2n, durableLsn: firstLsn - 1n });
    for (const frame of frames)
        healed.ship(frame);
    await healed.hearAck(lsn);
    t.ok(before.equals(await recovered(scene, `lsn:${last}`)));
});
//# sourceMappingURL=broken_journal.test.js.map