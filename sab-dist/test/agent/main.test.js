/** An agent whose end goes wrong. Needs root. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { isRoot, skipUnless } from '../prerequisite.js';
import { RunningAgent, scratchDirectory, socketVolume } from './running_agent.js';
const skip = skipUnless(isRoot && existsSync('/dev/fuse') && existsSync('/dev/loop-control'), 'root, /dev/fuse and loop devices');
// Symptom: one volume that could not be taken away, and the process stayed, with its control socket and its locks, which
// kept its successor out.
t.test('an end that fails still gives everything back', { skip }, async (t) => {
    const directory = scratchDirectory(t);
    const volume = { ...socketVolume(directory), attach: { kind: 'loop', threads: 1 } };
    writeFileSync(volume.backing, Buffer.alloc(1 << 20));
    const listeners = process.listenerCount('uncaughtException');
    const site = { directory, receiverPort: 1, volumes: [volume] };
    const agent = await RunningAgent.start(site);
    const link = path.join(directory, 'links', 'db', 'data');
    rmSync(link);
    mkdirSync(link); // what is there instead of the link cannot be removed as one
    await t.rejects(agent.stop(), { message: /links/ });
    t.equal(process.listenerCount('uncaughtException'), listeners);
    rmSync(link, { recursive: true });
    const successor = await RunningAgent.start(site);
    t.match((await successor.status()).volumes[0]?.device, /^\/dev\/loop/);
    await successor.stop();
});
//# sourceMappingURL=main.test.js.map