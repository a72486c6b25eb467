/** What a successor may take for the backing of its predecessor. */
import { execFile } from 'node:child_process';
import { linkSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { backingSight, isOtherBacking, type BackingSight } from '../../agent/backing_sight.js';
import { deviceNumber } from '../../service/device_number.js';
import { isRoot, skipUnless } from '../prerequisite.js';

const run = promisify(execFile);
const NOTHING: BackingSight = { inode: 0n, bornNs: 0n, name: '', medium: '' };

t.test('a file is the same under whatever name, and another one under the same name is not', async (t) => {
  const directory = t.testdir({ 'a.img': 'x', 'b.img': 'x' });
  const [file, other] = [path.join(directory, 'a.img'), path.join(directory, 'b.img')];
  const before = await backingSight(file);
  writeFileSync(file, 'more');
  t.notOk(isOtherBacking(before, await backingSight(file)), 'it was written to');
  linkSync(file, path.join(directory, 'c.img'));
  t.notOk(isOtherBacking(before, await backingSight(path.join(directory, 'c.img'))));
  renameSync(other, file);
  t.ok(isOtherBacking(before, await backingSight(file)));
  rmSync(file);
  await t.rejects(backingSight(file), { code: 'BACKING_MISSING' });
});

t.test(
  'a device is known by its name, else by its medium',
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    const file = path.join(t.testdir({ 'a.img': Buffer.alloc(1 << 20) }), 'a.img');
    const attach = async (): Promise<string> => {
      const { stdout } = await run('losetup', ['--find', '--show', file]);
      const device = stdout.trim();
      t.teardown(() => run('losetup', ['-d', device]).catch(() => undefined));
      return device;
    };
    const device = await attach();
    const real = await backingSight(device);
    t.match(real, { inode: 0n, name: '', medium: /^\d+$/ }, 'a loop device has no name');
    t.notOk(isOtherBacking(real, await backingSight(device)));
    t.ok(isOtherBacking(real, await backingSight(await attach())));
    const number = deviceNumber(statSync(device, { bigint: true }).rdev);
    const sight = (tables: Parameters<typeof t.testdir>[0]): Promise<BackingSight> =>
      backingSight(device, { bootId: '', blockDevices: t.testdir(tables) });
    t.match(await sight({ [number]: { serial: 'disk1', diskseq: '7\n' } }), {
      name: 'serial disk1',
      medium: '7',
    });
    t.match(await sight({ diskseq: '7\n', [number]: { partition: '2' } }), { name: '', medium: '7' });
    t.match(await sight({ [number]: {} }), NOTHING);
  },
);

t.test('where nothing tells, nothing is another one', (t) => {
  const file = { ...NOTHING, inode: 5n, bornNs: 9n };
  const disk = { ...NOTHING, name: 'wwid a', medium: '7' };
  t.notOk(isOtherBacking(file, { ...file, bornNs: 0n }));
  t.ok(isOtherBacking(file, { ...file, bornNs: 8n }), 'the inode was given to another file');
  t.notOk(isOtherBacking(disk, { ...disk, medium: '8' }), 'it was away');
  t.notOk(isOtherBacking(disk, { ...disk, name: '' }));
  t.ok(isOtherBacking(disk, { ...disk, name: 'wwid b' }));
  t.ok(isOtherBacking(disk, { ...disk, name: '', medium: '8' }));
  t.ok(isOtherBacking(file, disk));
  t.ok(isOtherBacking(disk, file));
  for (const sight of [file, disk]) {
    t.notOk(isOtherBacking(sight, NOTHING));
    t.notOk(isOtherBacking(NOTHING, sight));
  }
  t.end();
});
