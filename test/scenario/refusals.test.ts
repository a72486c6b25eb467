/** Bad input, as a user meets it: each gets a code, a subject, a remedy and its exit status, and loses nothing. */
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { command } from './command.js';
import { refused, refusedInWords } from './refusal.js';
import { Scratch } from './scratch.js';
import { afterimage } from './site.js';
import { socketSite, writePattern, type SocketSite } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'refused';
const BYTES = 32 << 20;

async function siteWithHistory(t: Test, name: string): Promise<SocketSite> {
  const started = await socketSite(t, name, BYTES, { group: GROUP });
  await writePattern(started.uri, '0x11');
  await started.site.settled();
  return started;
}

t.test('a configuration that is wrong names its line', async (t) => {
  const scratch = await Scratch.create('config');
  t.teardown(() => scratch.clean());
  const file = scratch.path('agent.toml');
  const check = ['agent', 'configcheck', '--config', file];
  const valid = `receiver_plain = "127.0.0.1:7443"\nstate_dir = "${scratch.path('state')}"\nrun_dir = "${scratch.path('run')}"\n`;
  await writeFile(file, `${valid}[[group]]\nname = "g"\nrign_bytes = "64MiB"\n`);
  await refused(t, 'CONFIG_INVALID', /6.*rign_bytes|rign_bytes.*6/s, check);
  await refusedInWords(t, 'CONFIG_INVALID', check);

  await writeFile(file, valid.replace('127.0.0.1', '192.0.2.1'));
  await refused(t, 'ADDRESS_NOT_LOOPBACK', '192.0.2.1', check);
  const none = scratch.path('none.toml');
  await refused(t, 'CONFIG_MISSING', none, ['agent', 'run', '--config', none]);
});

t.test('a backing that is missing, empty or mounted is not protected', async (t) => {
  const scratch = await Scratch.create('backing');
  t.teardown(() => scratch.clean());
  const run = async (backing: string): Promise<string[]> => {
    const file = scratch.path('agent.toml');
    await writeFile(
      file,
      `receiver = "127.0.0.1:9"\nstate_dir = "${scratch.path('state')}"\nrun_dir = "${scratch.path('run')}"\n` +
        `[[group]]\nname = "g"\n[[group.volume]]\nname = "v"\nbacking = "${backing}"\nattach = "socket"\n`,
    );
    return ['agent', 'run', '--config', file];
  };
  const missing = scratch.path('none.img');
  await refused(t, 'BACKING_MISSING', missing, await run(missing));
  const empty = scratch.path('empty.img');
  await writeFile(empty, '');
  await refused(t, 'BACKING_INVALID', empty, await run(empty));

  const { device, mount } = await mountedDevice(scratch);
  await refused(t, 'BACKING_BUSY', device, await run(device));

  // A write to the volume would wait for the spool, and the spool for a write to the volume.
  const [, , , file = ''] = await run(device);
  const right = await readFile(file, 'utf8');
  const group = `name = "g"\nspool_bytes_max = "64MiB"\n`;
  const spooled = right.replace('name = "g"\n', group);
  await writeFile(file, spooled.replace('[[group]]', `spool_dir = "${mount}/spool"\n[[group]]`));
  for (const verb of ['configcheck', 'run'])
    await refused(t, 'BACKING_ON_ITSELF', `${mount}/spool`, ['agent', verb, '--config', file]);
});

t.test('a volume whose backing has shrunk is refused, and goes on when it is restored', async (t) => {
  const { site, backing } = await siteWithHistory(t, 'resized');
  t.equal(await site.agent.stop(), 0);
  await truncate(backing, BYTES / 2);
  const run = ['agent', 'run', '--config', site.scratch.path('agent.toml')];
  await refused(t, 'BACKING_RESIZED', backing, run);
  await truncate(backing, BYTES);
  await site.agent.start();
  t.equal((await site.settled()).state, 'protected');
});

t.test('points, volumes and targets that cannot be', async (t) => {
  const { site, uri } = await siteWithHistory(t, 'points');
  const { scratch } = site;
  const control = ['--control', site.receiverControl];
  const no = (code: string, subject: string, ...args: string[]): Promise<void> =>
    refused(t, code, subject, [...args, ...control]);

  await no('GROUP_UNKNOWN', 'nobody', 'export', 'nobody', '--at', 'latest');
  await no('POINT_INVALID', 'yesterday', 'export', GROUP, '--at', 'yesterday');
  await no('POINT_UNKNOWN', '99999999', 'export', GROUP, '--at', 'lsn:99999999');
  await no('POINT_UNKNOWN', '2001-01-01', 'export', GROUP, '--at', '2001-01-01T00:00:00Z');
  await no('POINT_UNKNOWN', '2999-01-01', 'export', GROUP, '--at', '2999-01-01T00:00:00Z');
  await no('CHECKPOINT_UNKNOWN', 'none', 'export', GROUP, '--at', 'checkpoint:none');
  await refusedInWords(t, 'CHECKPOINT_UNKNOWN', ['export', GROUP, '--at', 'checkpoint:none', ...control]);
  await no('VOLUME_UNKNOWN', 'none', 'export', GROUP, '--at', 'latest', '--volume', 'none');
  await no('ADDRESS_NOT_LOOPBACK', '192.0.2.1', 'export', GROUP, '--at', 'latest', '--tcp', '192.0.2.1:1');
  await no('EXPORT_UNKNOWN', 'e99', 'export', 'close', 'e99');
  await site.ask('checkpoint', 'create', GROUP, 'twice');
  await no('CHECKPOINT_EXISTS', 'twice', 'checkpoint', 'create', GROUP, 'twice');

  const target = scratch.path('target.img');
  await writeFile(target, 'something of value');
  const latestTo = (file: string): string[] => ['recover', `${GROUP}/disk`, '--at', 'latest', '--to', file];
  await no('TARGET_NOT_EMPTY', target, ...latestTo(target));
  t.equal(await readFile(target, 'utf8'), 'something of value', 'and nothing of it is lost');
  await afterimage([...latestTo(target), '--yes', ...control]);
  t.equal((await readFile(target)).length, BYTES, '--yes overwrites it');
  const other = scratch.path('x.img');
  await no('VOLUME_UNKNOWN', 'none', 'recover', `${GROUP}/none`, '--at', 'latest', '--to', other);

  await command('truncate', ['-s', '1M', scratch.path('small.img')]);
  const small = (await command('losetup', ['--find', '--show', scratch.path('small.img')])).stdout.trim();
  scratch.defer('small device', () => command('losetup', ['-d', small]));
  await no('TARGET_TOO_SMALL', small, ...latestTo(small), '--yes');
  const used = await mountedDevice(scratch);
  await writeFile(`${used.mount}/file`, 'something of value');
  await no('TARGET_BUSY', used.device, ...latestTo(used.device), '--yes');
  t.equal(await readFile(`${used.mount}/file`, 'utf8'), 'something of value');

  await writePattern(uri, '0x22');
  t.equal((await site.settled()).state, 'protected', 'none of it disturbed protection');
  t.ok((await site.recovered('disk', 'latest')).equals(await readFile(site.scratch.path('volume.img'))));
});

/** A loop device with a file system that is mounted. */
async function mountedDevice(scratch: Scratch): Promise<{ device: string; mount: string }> {
  const image = scratch.path('mounted.img');
  await command('truncate', ['-s', '64M', image]);
  await command('mkfs.ext4', ['-q', '-F', image]);
  const device = (await command('losetup', ['--find', '--show', image])).stdout.trim();
  scratch.defer('loop device', () => command('losetup', ['-d', device]));
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [device, mount]);
  scratch.defer('mount', () => command('umount', [mount]));
  return { device, mount };
}
