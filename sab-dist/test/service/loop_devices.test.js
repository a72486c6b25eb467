/** Whose a loop device is: a question whose answer decides whether production loses it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, {} from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { detachOurs, loopDevicesOver } from '../../service/loop_devices.js';
/** A table of block devices as the kernel has it, of which loop0 lies over /srv/a and loop1 over nothing. */
function blockDevices(t) {
    const table = t.testdir({ loop0: { loop: { backing_file: '/srv/a\n' } }, loop1: {}, vda: {} });
    return table;
}
t.test('the loop devices over a file are those that the kernel names', async (t) => {
    const table = blockDevices(t);
    t.strictSame(await loopDevicesOver('/srv/a', table), ['/dev/loop0']);
    t.strictSame(await loopDevicesOver('/srv/b', table), []);
    t.strictSame(await loopDevicesOver('/srv/a', path.join(table, 'gone')), [], 'a machine without the table');
});
// Symptom: a stop while the process was out of descriptors took the device away from a mounted file system: its file
// could not be read, and "not ours" was the answer. If it returns, nothing is thrown.
t.test('what cannot be read is an error, not a device of somebody else', async (t) => {
    const table = blockDevices(t);
    mkdirSync(path.join(table, 'loop2', 'loop', 'backing_file'), { recursive: true });
    await t.rejects(loopDevicesOver('/srv/a', table), { code: 'IO_ERROR', message: /loop2/ });
    const file = path.join(table, 'file');
    writeFileSync(file, '');
    await t.rejects(loopDevicesOver('/srv/a', file), { code: 'IO_ERROR' });
});
t.test('a device is left alone only where it is known to be another one', async (t) => {
    const busy = () => Promise.reject(new AfterimageError('LOOP_BUSY', 'open'));
    const unknown = () => Promise.reject(new AfterimageError('IO_ERROR', 'no descriptors'));
    const is = (...answers) => {
        return () => Promise.resolve(answers.shift() ?? false);
    };
    await t.rejects(detachOurs('/dev/loop0', unknown, busy), { code: 'IO_ERROR' });
    await t.rejects(detachOurs('/dev/loop0', is(true, true), busy), { code: 'LOOP_BUSY' });
    await detachOurs('/dev/loop0', is(true, false), busy); // somebody else has it meanwhile
    await detachOurs('/dev/loop0', is(false), () => Promise.reject(new Error('not to be touched')));
    let looks = 0;
    const onceOnly = () => (looks++ === 0 ? Promise.resolve(true) : unknown());
    await t.rejects(detachOurs('/dev/loop0', onceOnly, busy), { code: 'IO_ERROR' }, 'nor the second look');
});
//# sourceMappingURL=loop_devices.test.js.map