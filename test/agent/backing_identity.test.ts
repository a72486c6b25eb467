import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { deviceNumber } from '../../service/device_number.js';
import { backingIdentity, isOtherDevice } from '../../agent/backing_identity.js';
import { isRoot, skipUnless } from '../prerequisite.js';

const run = promisify(execFile);

t.test('what the kernel says a device is', { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
  t.equal(await backingIdentity(file), '', 'an inode is none: after a boot another file may have it');
  const { stdout } = await run('losetup', ['--find', '--show', file]);
  const device = stdout.trim();
  t.teardown(() => run('losetup', ['-d', device]));
  t.equal(await backingIdentity(device), '', 'nor is the number of a loop device');
  const number = deviceNumber(statSync(device, { bigint: true }).rdev);
  const identity = (tables: Parameters<typeof t.testdir>[0]): Promise<string> =>
    backingIdentity(device, { bootId: '', blockDevices: t.testdir(tables) });
  t.equal(await identity({ [number]: { wwid: 'eui.01\n', serial: 'S' } }), 'wwid eui.01', 'NVMe');
  t.equal(await identity({ [number]: { device: { wwid: 'naa.5\n' } } }), 'device/wwid naa.5', 'SCSI');
  t.equal(await identity({ [number]: { serial: 'disk1' } }), 'serial disk1', 'virtio');
  t.equal(await identity({ [number]: { dm: { uuid: 'LVM-1' } } }), 'dm/uuid LVM-1');
  t.equal(await identity({ [number]: { serial: '\n' } }), '', 'a disk without a number');
  // The directory of a partition lies in that of its disk.
  t.equal(await identity({ wwid: 'eui.01', [number]: { partition: '2' } }), 'wwid eui.01 partition 2');
  t.equal(await identity({ [number]: { partition: '2' } }), '');
});

t.test('where one of two is not known nothing is', (t) => {
  t.ok(isOtherDevice('wwid a', 'wwid b'));
  t.notOk(isOtherDevice('wwid a', 'wwid a'));
  t.notOk(isOtherDevice('', 'wwid a'));
  t.notOk(isOtherDevice('wwid a', ''));
  t.end();
});
