/** What a file lies on, found through real stacks of loop devices and file systems, and through sysfs trees as they are. */
import { mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { deviceNumber } from '../../service/device_number.js';
import { devicesUnder } from '../../service/devices_under.js';
import { swapAreas } from '../../service/mounts.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from '../scenario/command.js';
import { Scratch } from '../scenario/scratch.js';

const MIB = 1 << 20;
const numberOf = (device: string): string => deviceNumber(statSync(device, { bigint: true }).rdev);

/** A loop device over a new file in `directory`, with a file system, mounted. */
async function mounted(scratch: Scratch, directory: string, mkfs: string, mib: number) {
  const image = `${directory}/image-${mib}`;
  await command('truncate', ['-s', String(mib * MIB), image]);
  const device = (await command('losetup', ['--find', '--show', image])).stdout.trim();
  scratch.defer(device, () => command('losetup', ['-d', device]));
  await command(mkfs, ['-q', device]);
  const mountPoint = `${directory}/mount-${mib}`;
  mkdirSync(mountPoint);
  await command('mount', [device, mountPoint]);
  scratch.defer(mountPoint, () => command('umount', [mountPoint]));
  return { device, number: numberOf(device), mountPoint };
}

async function scratchOf(t: Test): Promise<Scratch> {
  const scratch = await Scratch.create('devices');
  t.teardown(() => scratch.clean());
  return scratch;
}

const asRoot = { skip: skipUnless(isRoot, 'root') };

t.test('a file system in a file of another one lies on the devices of both', asRoot, async (t) => {
  const scratch = await scratchOf(t);
  const outer = await mounted(scratch, scratch.directory, 'mkfs.ext4', 64);
  const inner = await mounted(scratch, outer.mountPoint, 'mkfs.ext4', 16);
  const other = await mounted(scratch, scratch.directory, 'mkfs.ext4', 8);
  const found = await devicesUnder(inner.mountPoint);
  t.ok(found.has(inner.number));
  t.ok(found.has(outer.number));
  t.notOk(found.has(other.number));
  t.notOk((await devicesUnder(outer.mountPoint)).has(inner.number), 'what lies on it is not under it');
});

t.test('swap lies on what holds it', asRoot, async (t) => {
  const scratch = await scratchOf(t);
  const { number, mountPoint } = await mounted(scratch, scratch.directory, 'mkfs.ext4', 24);
  const file = `${mountPoint}/swap file`;
  await command('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', 'count=4', 'status=none']);
  await command('chmod', ['600', file]);
  await command('mkswap', ['-q', file]);
  await command('swapon', [file]);
  scratch.defer('swap', () => command('swapoff', [file]));
  t.ok((await swapAreas()).includes(file));
  t.ok((await devicesUnder(file)).has(number));
});

t.test('a device consists of itself, and of what is under it', asRoot, async (t) => {
  const scratch = await scratchOf(t);
  const outer = await mounted(scratch, scratch.directory, 'mkfs.ext4', 48);
  const inner = await mounted(scratch, outer.mountPoint, 'mkfs.ext4', 12);
  const found = await devicesUnder(inner.device);
  t.ok(found.has(inner.number));
  t.ok(found.has(outer.number));
});

t.test('a subvolume of btrfs, whose device number is nobody’s', asRoot, async (t) => {
  const scratch = await scratchOf(t);
  const { number, mountPoint } = await mounted(scratch, scratch.directory, 'mkfs.btrfs', 128);
  await command('btrfs', ['subvolume', 'create', `${mountPoint}/state`]);
  const { dev } = statSync(`${mountPoint}/state`, { bigint: true });
  t.not(deviceNumber(dev), number, 'or this would show nothing');
  t.ok((await devicesUnder(`${mountPoint}/state`)).has(number));
});

t.test('an overlay lies on what its layers lie on', asRoot, async (t) => {
  const scratch = await scratchOf(t);
  const { number, mountPoint } = await mounted(scratch, scratch.directory, 'mkfs.ext4', 32);
  for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(`${mountPoint}/${name}`);
  const layers = `lowerdir=${mountPoint}/lower,upperdir=${mountPoint}/upper,workdir=${mountPoint}/work`;
  await command('mount', ['-t', 'overlay', '-o', layers, 'overlay', `${mountPoint}/merged`]);
  scratch.defer('overlay', () => command('umount', [`${mountPoint}/merged`]));
  t.ok((await devicesUnder(`${mountPoint}/merged`)).has(number));
});

t.test('memory lies on nothing', async (t) => {
  t.same([...(await devicesUnder('/proc'))], []);
});

// Device-mapper and partitions are not to be had here without modules: links and files as sysfs has them.
t.test('a logical volume on an encrypted partition', async (t) => {
  const scratch = await scratchOf(t);
  const file = scratch.path('file');
  writeFileSync(file, '');
  const number = deviceNumber(statSync(file, { bigint: true }).dev);
  if (number.startsWith('0:'))
    return void t.pass('this file system has a number of its own; the others show it');
  const sys = t.testdir({
    devices: {
      sda: {
        dev: '8:0\n',
        sda2: { dev: '8:2\n', partition: '2\n' },
        sda1: { dev: '8:1\n', partition: '1\n' },
      },
      'dm-0': { dev: '253:0\n', slaves: {} },
      'dm-1': { dev: `${number}\n`, slaves: {} },
    },
    dev: { block: {} },
  });
  const link = (to: string, at: string): void => symlinkSync(`${sys}/devices/${to}`, `${sys}/${at}`);
  link('sda', 'dev/block/8:0');
  link('sda/sda1', 'dev/block/8:1');
  link('sda/sda2', 'dev/block/8:2');
  link('dm-0', 'dev/block/253:0');
  link('dm-1', `dev/block/${number}`);
  link('sda/sda2', 'devices/dm-0/slaves/sda2');
  link('dm-0', 'devices/dm-1/slaves/dm-0');
  t.same([...(await devicesUnder(file, sys))], [number, '253:0', '8:2', '8:0']);
});
