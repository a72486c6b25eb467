import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import t from 'tap';
import * as native from '../../native/index.js';
import { clearExportLeftovers } from '../../receiver/export_leftovers.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const skip = skipUnless(isRoot, 'root, for loop devices');
const log = pino({ level: 'silent' });
t.test('a receiver that was killed leaves a loop device, a mount and a socket: its successor clears them', { skip }, async (t) => {
    const runDir = await mkdtemp(path.join(tmpdir(), 'afterimage-left-'));
    t.teardown(() => rm(runDir, { recursive: true, force: true }));
    const image = path.join(runDir, 'image');
    await writeFile(image, '');
    await truncate(image, 1 << 20);
    const serving = new URL('../../receiver/serving.js', import.meta.url).href;
    const addon = new URL('../../native/index.js', import.meta.url).href;
    const script = `
    import net from 'node:net';
    const native = await import(${JSON.stringify(addon)});
    const { serveDevices } = await import(${JSON.stringify(serving)});
    const options = { path: ${JSON.stringify(image)}, cache: 'buffered', readOnly: true, exclusive: false };
    const device = await native.openFileDevice(options);
    const directory = ${JSON.stringify(path.join(runDir, 'export-0a1b2c3d'))};
    const { volumes } = await serveDevices(native, directory, [{ name: 'data', device }]);
    net.createServer().listen(directory + '.sock', () => console.log(volumes[0].device));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [text] = (await once(child.stdout, 'data'));
    const loop = path.basename(text.toString().trim());
    const other = net.createServer();
    other.listen(path.join(runDir, 'export-99.sock'));
    await once(other, 'listening');
    t.teardown(() => other.close());
    await clearExportLeftovers(runDir, native.detachLoop, log);
    t.same(await readdir(runDir), ['export-0a1b2c3d', 'export-0a1b2c3d.sock', 'export-99.sock', 'image'], 'it lives');
    child.kill('SIGKILL');
    await once(child, 'close');
    await clearExportLeftovers(runDir, native.detachLoop, log);
    t.same(await readdir(runDir), ['export-99.sock', 'image']);
    t.notMatch(await readFile('/proc/self/mountinfo', 'utf8'), runDir);
    const backing = await readFile(`/sys/block/${loop}/loop/backing_file`, 'utf8').catch(() => '');
    t.notMatch(backing, runDir);
});
//# sourceMappingURL=export_leftovers.test.js.map