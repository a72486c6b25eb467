import { execFile } from 'node:child_process';
import { closeSync, openSync, readFileSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t, {} from 'tap';
import { backingFingerprint, evidenceOf } from '../../agent/backing_fingerprint.js';
import { isRoot, skipUnless } from '../prerequisite.js';
const run = promisify(execFile);
const MIB = 1 << 20;
const skip = skipUnless(isRoot, 'root');
t.test('a write to a file changes its fingerprint, reading does not', async (t) => {
    const file = path.join(t.testdir({ 'a.img': 'content' }), 'a.img');
    utimesSync(file, 1, 2);
    const before = await backingFingerprint(file);
    readFileSync(file);
    t.equal(await backingFingerprint(file), before);
    await new Promise((resolve) => setTimeout(resolve, 20)); // more than a tick of the file system's clock
    writeFileSync(file, 'CONTENT');
    utimesSync(file, 1, 2); // as tools that restore, and image tools that mean well, do
    t.not(await backingFingerprint(file), before);
});
async function loopDevice(t) {
    const file = path.join(t.testdir({ 'a.img': Buffer.alloc(MIB) }), 'a.img');
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    const device = stdout.trim();
    t.teardown(() => run('losetup', ['-d', device]).catch(() => undefined));
    return device;
}
function write(device) {
    const file = openSync(device, 'r+');
    writeSync(file, Buffer.alloc(4096, 7), 0, 4096, 8192);
    closeSync(file);
}
t.test('a write or a discard to a block device changes its fingerprint', { skip }, async (t) => {
    const device = await loopDevice(t);
    const first = await backingFingerprint(device);
    readFileSync(device);
    t.equal(await backingFingerprint(device), first, 'reading does not');
    write(device);
    const second = await backingFingerprint(device);
    t.not(second, first);
    await run('blkdiscard', [device]);
    t.not(await backingFingerprint(device), second);
});
t.test('a block device that was set up anew, or after a boot, is another one', { skip }, async (t) => {
    const device = await loopDevice(t);
    const { stdout } = await run('losetup', ['--noheadings', '--output', 'BACK-FILE', device]);
    const before = await backingFingerprint(device);
    await run('losetup', ['-d', device]);
    await run('losetup', [device, stdout.trim()]);
    const after = await backingFingerprint(device);
    t.not(after, before);
    const bootId = path.join(t.testdir({ boot: 'another' }), 'boot');
    const rebooted = { bootId, blockDevices: '/sys/dev/block' };
    t.not(await backingFingerprint(device, rebooted), after);
    t.equal(evidenceOf(before, after), 'changed', 'set up anew');
    t.equal(evidenceOf(after, await backingFingerprint(device, rebooted)), 'none', 'after a boot');
});
t.test('where nothing counts writes, nothing is vouched for', { skip }, async (t) => {
    const device = await loopDevice(t);
    const nowhere = { bootId: '/proc/sys/kernel/random/boot_id', blockDevices: t.testdir({}) };
    t.equal(await backingFingerprint(device, nowhere), '');
    const queue = `/sys/block/${path.basename(device)}/queue/iostats`;
    writeFileSync(queue, '0');
    t.equal(await backingFingerprint(device), '');
    writeFileSync(queue, '1');
});
t.test('what two fingerprints say about the time between them', (t) => {
    t.equal(evidenceOf('file 1:2 3 3 /a b', 'file 1:2 3 3 /a b'), 'untouched');
    t.equal(evidenceOf('file 1:2 3 3 /a', 'file 1:2 4 4 /a'), 'changed');
    t.equal(evidenceOf('file 1:2 3 3 /a', 'device boot 3 1 2 0 0 /a'), 'changed');
    t.equal(evidenceOf('device boot 3 1 2 0 0 /a', 'device boot 3 1 3 0 0 /a'), 'changed');
    t.equal(evidenceOf('device boot 3 1 2 0 0 /a', 'device other 9 0 0 0 0 /a'), 'none');
    t.equal(evidenceOf('', 'file 1:2 3 3 /a'), 'none');
    t.equal(evidenceOf('file 1:2 3 3 /a', ''), 'none');
    t.end();
});
//# sourceMappingURL=backing_fingerprint.test.js.map