import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { openBacking } from '../../agent/backing.js';
import type { VolumeConfig } from '../../agent/config.js';
import type { BlockDevice } from '../../native/index.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from '../scenario/command.js';
import { Scratch } from '../scenario/scratch.js';

const run = promisify(execFile);
const volume = (backing: string): VolumeConfig => ({
  name: 'data',
  backing,
  mapped: null,
  cache: 'buffered',
  attach: { kind: 'loop', threads: 4 },
});
const unopened = (): Promise<BlockDevice> => Promise.reject(new Error('it was opened'));

t.test(
  'a backing that holds the state directory, at whatever depth, is refused before it is touched',
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    const scratch = await Scratch.create('backing');
    t.teardown(() => scratch.clean());
    let directory = scratch.directory;
    const devices: string[] = [];
    for (const mib of [64, 32]) {
      const image = `${directory}/image`;
      await command('truncate', ['-s', `${mib}M`, image]);
      const device = (await command('losetup', ['--find', '--show', image])).stdout.trim();
      scratch.defer(device, () => command('losetup', ['-d', device]));
      await command('mkfs.ext4', ['-q', device]);
      directory = `${directory}/mount`;
      await command('mkdir', [directory]);
      const mountPoint = directory;
      await command('mount', [device, mountPoint]);
      scratch.defer(mountPoint, () => command('umount', [mountPoint]));
      devices.push(device);
    }
    const stateDir = `${directory}/not/there/yet`;
    for (const device of devices)
      await t.rejects(openBacking(volume(device), null, '', stateDir, unopened), {
        code: 'BACKING_ON_ITSELF',
      });
    const inner = devices.at(-1) ?? '';
    await t.rejects(openBacking(volume(inner), null, '', scratch.directory, unopened), /it was opened/);
  },
);

t.test('a backing that is missing, and a state directory that is not', async (t) => {
  const missing = path.join(t.testdir(), 'nothing.img');
  await t.rejects(openBacking(volume(missing), null, '', '/', unopened), { code: 'BACKING_MISSING' });
});

t.test(
  'a file that is in use as a loop device is refused',
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    // The agent's lock does not hold a loop device off: what it wrote was in no record.
    const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    t.teardown(() => run('losetup', ['-d', stdout.trim()]));
    const link = `${file}.link`;
    symlinkSync(file, link);
    await t.rejects(openBacking(volume(link), null, '', '/', unopened), {
      code: 'BACKING_BUSY',
      message: new RegExp(stdout.trim()),
    });
  },
);

// Symptom: after a boot another, larger disk lay at the path. It was taken for the same one grown, its content replicated, and
// the right one refused afterwards as having shrunk.
t.test('a device that is another one, and of another size, has not grown', async (t) => {
  const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
  const opened = (before: string, now: string, size: bigint) => {
    const [close, forgetCached] = [(): Promise<void> => Promise.resolve(), () => Promise.resolve()];
    const device = { size, blockSize: 512, close, forgetCached } as BlockDevice;
    const memory = { size: 1n << 20n, identity: before };
    return openBacking(volume(file), memory, now, '/', () => Promise.resolve(device));
  };
  await t.rejects(opened('wwid a', 'wwid b', 2n << 20n), {
    code: 'BACKING_RESIZED',
    message: /another device/,
  });
  await t.rejects(opened('wwid a', 'wwid a', 1n << 19n), { code: 'BACKING_RESIZED' });
  t.equal((await opened('wwid a', 'wwid b', 1n << 20n)).size, 1n << 20n, 'compared in full');
  for (const [before, now] of [
    ['wwid a', 'wwid a'],
    ['', 'wwid b'],
    ['wwid a', ''],
  ] as const)
    t.equal((await opened(before, now, 2n << 20n)).size, 2n << 20n, 'as far as anybody knows it has grown');
});

t.test('blocks that no segment can name are refused where the backing is opened', async (t) => {
  // The receiver took them, wrote down the generation, and could never open the journal again.
  const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
  const known = { size: 1n << 20n, blockSize: 4096 };
  for (const wrong of [{ blockSize: 1024 }, { blockSize: 2048 }, { size: 2n ** 49n + 4096n }]) {
    let isClosed = false;
    const close = (): Promise<void> => Promise.resolve(void (isClosed = true));
    const device = { ...known, ...wrong, close } as BlockDevice;
    const opened = openBacking(volume(file), null, '', '/', () => Promise.resolve(device));
    await t.rejects(opened, { code: 'BACKING_INVALID' });
    t.ok(isClosed);
  }
});
