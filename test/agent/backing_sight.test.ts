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
const NOTHING: BackingSight = { inode: 0n, bornNs: 0n, name: '', medium: '', partition: '' };

t.test('a file is the same under whatever name, and another one under the same name is not', async (t) => {
  const directory = t.testdir({ 'a.img': 'x', 'b.img': 'x' });
  const [file, other] = [path.join(directory, 'a.img'), path.join(directory, 'b.img')];
  const before = await backingSight(file, null);
  writeFileSync(file, 'more');
  t.notOk(isOtherBacking(before, await backingSight(file, null)), 'it was written to');
  linkSync(file, path.join(directory, 'c.img'));
  t.notOk(isOtherBacking(before, await backingSight(path.join(directory, 'c.img'), null)));
  renameSync(other, file);
  t.ok(isOtherBacking(before, await backingSight(file, null)));
  rmSync(file);
  await t.rejects(backingSight(file, null), { code: 'BACKING_MISSING' });
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
    const real = await backingSight(device, null);
    t.match(real, { inode: 0n, name: '', medium: /^\d+$/ }, 'a loop device has no name');
    const again = await attach();
    t.not((await backingSight(again, null)).medium, real.medium);
    t.notOk(isOtherBacking(real, await backingSight(again, null)), 'it may have been away, and is back');
    const number = deviceNumber(statSync(device, { bigint: true }).rdev);
    const sight = (
      tables: Parameters<typeof t.testdir>[0],
      known: BackingSight | null = null,
    ): Promise<BackingSight> => backingSight(device, known, { bootId: '', blockDevices: t.testdir(tables) });
    const named = { ...NOTHING, name: 'serial disk1', medium: '7' };
    t.same(await sight({ [number]: { serial: 'disk1', diskseq: '7\n' } }), named);
    t.equal(await sight({ [number]: { diskseq: '7' } }, named), named, 'its name is not asked for');
    t.same(await sight({ diskseq: '7\n', [number]: { partition: '2' } }), {
      ...NOTHING,
      ...{ medium: '7', partition: '2' },
    });
    t.same(await sight({ [number]: {} }), NOTHING);
  },
);

t.test('only what is certain makes it another one', (t) => {
  const file = { ...NOTHING, inode: 5n, bornNs: 9n };
  const disk = { ...NOTHING, name: 'wwid a', medium: '7' };
  const others: [BackingSight, BackingSight, string][] = [
    [file, { ...file, inode: 6n }, 'another file'],
    [file, { ...file, bornNs: 8n }, 'the inode was given to another file'],
    [file, disk, 'a device'],
    [disk, file, 'a file'],
    [disk, { ...disk, name: 'wwid b', medium: '8' }, 'another disk'],
    [disk, { ...disk, name: 'serial a', medium: '8' }, 'what has a name of another kind'],
    [disk, { ...disk, partition: '2' }, 'another partition'],
  ];
  for (const [before, now, what] of others) t.ok(isOtherBacking(before, now), what);
  const same: [BackingSight, BackingSight, string][] = [
    [file, { ...file, bornNs: 0n }, 'nobody says when it was made'],
    [disk, { ...disk, medium: '8' }, 'it was away'],
    [disk, { ...disk, name: '', medium: '8' }, 'it was away, and says no name'],
    [disk, { ...disk, name: 'wwid b' }, 'the same medium'],
    [file, NOTHING, 'nothing is known'],
    [disk, NOTHING, 'nothing is known'],
    [NOTHING, file, 'nothing was known'],
    [NOTHING, disk, 'nothing was known'],
  ];
  for (const [before, now, what] of same) t.notOk(isOtherBacking(before, now), what);
  t.end();
});
