/** Bad input, as a user meets it: each gets a code, a subject, a remedy and its exit status, and loses nothing. */
import { cp, mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { command } from './command.js';
import { Daemon } from './daemon.js';
import { Scratch } from './scratch.js';
import { afterimage, Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'refused';
const BYTES = 32 << 20;
const ANY_STATUS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 130];

interface Refusal {
  status: number;
  error: { code: string; message: string; hint: string; retryable: boolean };
}

/** Runs a command that must fail; with --json its error is one object on stderr. */
async function refusal(args: string[]): Promise<Refusal> {
  const result = await afterimage([...args, '--json'], ANY_STATUS);
  const line = result.stderr
    .trim()
    .split('\n')
    .find((text) => text.startsWith('{"error"'));
  if (result.status === 0 || line === undefined) throw new Error(`not refused: ${JSON.stringify(result)}`);
  return { status: result.status, ...(JSON.parse(line) as Pick<Refusal, 'error'>) };
}

async function siteWithHistory(t: Test, name: string): Promise<{ site: Site; uri: string; backing: string }> {
  const scratch = await Scratch.create(name);
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
  });
  await site.start();
  const ready = await site.settled();
  const uri = `nbd+unix:///?socket=${(ready.volumes[0]?.device ?? '').replace(/^unix:/, '')}`;
  await pattern(uri, '0x11');
  await site.settled();
  return { site, uri, backing };
}

const pattern = (uri: string, byte: string): Promise<unknown> =>
  command('qemu-io', ['-f', 'raw', '-c', `write -P ${byte} 0 4M`, '-c', 'flush', uri]);

t.test('a configuration that is wrong names its line', async (t) => {
  const scratch = await Scratch.create('config');
  t.teardown(() => scratch.clean());
  const file = scratch.path('agent.toml');
  const valid = `receiver = "127.0.0.1:7443"\nstate_dir = "${scratch.path('state')}"\nrun_dir = "${scratch.path('run')}"\n`;
  await writeFile(file, `${valid}[[group]]\nname = "g"\nrign_bytes = "64MiB"\n`);
  const unknown = await refusal(['agent', 'configcheck', '--config', file]);
  t.equal(unknown.error.code, 'CONFIG_INVALID');
  t.match(unknown.error.message, /6.*rign_bytes|rign_bytes.*6/s, 'with line and key');
  t.equal(unknown.status, 3);

  await writeFile(file, valid.replace('127.0.0.1', '192.0.2.1'));
  t.equal((await refusal(['agent', 'configcheck', '--config', file])).error.code, 'ADDRESS_NOT_LOOPBACK');
  t.equal(
    (await refusal(['agent', 'run', '--config', scratch.path('none.toml')])).error.code,
    'CONFIG_MISSING',
  );
});

t.test('a backing that is missing, empty or mounted is not protected', async (t) => {
  const scratch = await Scratch.create('backing');
  t.teardown(() => scratch.clean());
  const config = async (backing: string): Promise<string> => {
    const file = scratch.path('agent.toml');
    await writeFile(
      file,
      `receiver = "127.0.0.1:9"\nstate_dir = "${scratch.path('state')}"\nrun_dir = "${scratch.path('run')}"\n` +
        `[[group]]\nname = "g"\n[[group.volume]]\nname = "v"\nbacking = "${backing}"\nattach = "socket"\n`,
    );
    return file;
  };
  const missing = await refusal(['agent', 'run', '--config', await config(scratch.path('none.img'))]);
  t.equal(missing.error.code, 'BACKING_MISSING');
  t.equal(missing.status, 5);
  await writeFile(scratch.path('empty.img'), '');
  const empty = await refusal(['agent', 'run', '--config', await config(scratch.path('empty.img'))]);
  t.equal(empty.error.code, 'BACKING_INVALID');

  const image = scratch.path('mounted.img');
  await command('truncate', ['-s', '64M', image]);
  await command('mkfs.ext4', ['-q', '-F', image]);
  const device = (await command('losetup', ['--find', '--show', image])).stdout.trim();
  scratch.defer('loop device', () => command('losetup', ['-d', device]));
  const mount = scratch.path('mnt');
  await mkdir(mount);
  await command('mount', [device, mount]);
  scratch.defer('mount', () => command('umount', [mount]));
  const busy = await refusal(['agent', 'run', '--config', await config(device)]);
  t.equal(busy.error.code, 'BACKING_BUSY');
  t.equal(busy.status, 7);
});

t.test('a volume whose backing changed in size is refused, and goes on when it is restored', async (t) => {
  const { site, backing } = await siteWithHistory(t, 'resized');
  t.equal(await site.agent.stop(), 0);
  await truncate(backing, BYTES * 2);
  const resized = await refusal(['agent', 'run', '--config', site.scratch.path('agent.toml')]);
  t.equal(resized.error.code, 'BACKING_RESIZED');
  await truncate(backing, BYTES);
  await site.agent.start();
  t.equal((await site.settled()).state, 'protected');
});

t.test('points, volumes and targets that cannot be', async (t) => {
  const { site, uri } = await siteWithHistory(t, 'points');
  const { scratch } = site;
  const control = ['--control', site.receiverControl];
  const code = async (...args: string[]): Promise<string> =>
    (await refusal([...args, ...control])).error.code;

  t.equal(await code('export', 'nobody', '--at', 'latest'), 'GROUP_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', 'yesterday'), 'POINT_INVALID');
  t.equal(await code('export', GROUP, '--at', 'lsn:99999999'), 'POINT_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', '2001-01-01T00:00:00Z'), 'POINT_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', '2999-01-01T00:00:00Z'), 'POINT_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', 'checkpoint:none'), 'CHECKPOINT_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', 'latest', '--volume', 'none'), 'VOLUME_UNKNOWN');
  t.equal(await code('export', GROUP, '--at', 'latest', '--tcp', '192.0.2.1:1'), 'ADDRESS_NOT_LOOPBACK');
  t.equal(await code('export', 'close', 'e99'), 'EXPORT_UNKNOWN');
  await site.ask('checkpoint', 'create', GROUP, 'twice');
  t.equal(await code('checkpoint', 'create', GROUP, 'twice'), 'CHECKPOINT_EXISTS');

  const target = scratch.path('target.img');
  await writeFile(target, 'something of value');
  const occupied = ['recover', `${GROUP}/disk`, '--at', 'latest', '--to', target];
  t.equal(await code(...occupied), 'TARGET_NOT_EMPTY');
  t.equal(await readFile(target, 'utf8'), 'something of value', 'and nothing of it is lost');
  await afterimage([...occupied, '--yes', ...control]);
  t.equal((await readFile(target)).length, BYTES, '--yes overwrites it');
  t.equal(
    await code('recover', `${GROUP}/none`, '--at', 'latest', '--to', scratch.path('x.img')),
    'VOLUME_UNKNOWN',
  );

  await command('truncate', ['-s', '1M', scratch.path('small.img')]);
  const small = (await command('losetup', ['--find', '--show', scratch.path('small.img')])).stdout.trim();
  scratch.defer('small device', () => command('losetup', ['-d', small]));
  t.equal(
    await code('recover', `${GROUP}/disk`, '--at', 'latest', '--to', small, '--yes'),
    'TARGET_TOO_SMALL',
  );

  await command('truncate', ['-s', '64M', scratch.path('used.img')]);
  await command('mkfs.ext4', ['-q', '-F', scratch.path('used.img')]);
  const used = (await command('losetup', ['--find', '--show', scratch.path('used.img')])).stdout.trim();
  scratch.defer('used device', () => command('losetup', ['-d', used]));
  await mkdir(scratch.path('mnt'));
  await command('mount', [used, scratch.path('mnt')]);
  scratch.defer('mount', () => command('umount', [scratch.path('mnt')]));
  t.equal(await code('recover', `${GROUP}/disk`, '--at', 'latest', '--to', used, '--yes'), 'TARGET_BUSY');

  await pattern(uri, '0x22');
  t.equal((await site.settled()).state, 'protected', 'none of it disturbed protection');
});

t.test(
  'a second agent is kept out: by the lock, by the backing, and by its epoch at the receiver',
  async (t) => {
    const { site, uri } = await siteWithHistory(t, 'fenced');
    const { scratch } = site;
    const config = await readFile(scratch.path('agent.toml'), 'utf8');
    const sameState = await refusal(['agent', 'run', '--config', scratch.path('agent.toml')]);
    t.equal(sameState.error.code, 'STATE_BUSY');

    // A copy of the state directory, as a restored backup or a cloned machine would have it.
    await cp(scratch.path('state'), scratch.path('clone'), { recursive: true });
    const clone = config
      .replaceAll(scratch.path('state'), scratch.path('clone'))
      .replaceAll(scratch.path('run'), scratch.path('clone-run'));
    await writeFile(scratch.path('clone.toml'), clone);
    const sameBacking = await refusal(['agent', 'run', '--config', scratch.path('clone.toml')]);
    t.equal(sameBacking.error.code, 'BACKING_BUSY');

    await cp(scratch.path('volume.img'), scratch.path('clone.img'));
    await writeFile(
      scratch.path('clone.toml'),
      clone.replaceAll(scratch.path('volume.img'), scratch.path('clone.img')),
    );
    await rm(scratch.path('clone'), { recursive: true });
    await cp(scratch.path('state'), scratch.path('clone'), { recursive: true });
    const second = new Daemon({
      name: 'agent',
      config: scratch.path('clone.toml'),
      control: scratch.path('clone-run', 'agent.sock'),
      log: scratch.path('clone.log'),
    });
    scratch.defer('second agent', () => second.end());
    await second.start();
    // The newer epoch wins; whoever lost says why, and neither writes into the other's history.
    const fenced = async (control: string): Promise<string> =>
      (await afterimage(['status', '--control', control, '--json'])).stdout;
    const deadline = Date.now() + 20_000;
    let reports = '';
    while (!reports.includes('FENCED') && Date.now() < deadline) {
      reports = (await fenced(site.agentControl)) + (await fenced(scratch.path('clone-run', 'agent.sock')));
    }
    t.match(reports, /FENCED/, 'one of the two is told that it was replaced');
    await pattern(uri, '0x33');
    t.pass('production goes on for the one that was fenced');
  },
);

t.test('a receiver restored from an older copy is recognised, and compared in full', async (t) => {
  const { site, uri } = await siteWithHistory(t, 'regressed');
  const { scratch } = site;
  t.equal(await site.receiver.stop(), 0);
  await cp(site.store, scratch.path('older'), { recursive: true });
  await site.receiver.start();
  await pattern(uri, '0x44');
  const before = await site.settled();
  t.equal(await site.receiver.stop(), 0);
  await rm(site.store, { recursive: true });
  await cp(scratch.path('older'), site.store, { recursive: true });
  await site.receiver.start();
  const after = await site.waitFor(
    'in a new generation',
    60,
    (group) => group.generation !== before.generation,
  );
  t.ok(BigInt(after.generation) > BigInt(before.generation));
  await site.settled();
  const file = scratch.path('latest.img');
  await afterimage([
    'recover',
    `${GROUP}/disk`,
    '--at',
    'latest',
    '--to',
    file,
    '--control',
    site.receiverControl,
  ]);
  t.equal((await readFile(file))[0], 0x44, 'the latest point is what production holds');
});

t.test(
  'a store without space: ingest is refused, production goes on, and protection returns by itself',
  async (t) => {
    const scratch = await Scratch.create('full');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(BYTES), backing]);
    const disk = scratch.path('disk');
    await mkdir(disk);
    await command('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', disk]);
    scratch.defer('small disk', () => command('umount', [disk]));
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'socket' }],
      ringBytes: '256MiB',
      segmentBytes: '4MiB',
      store: `${disk}/store`,
    });
    await site.start();
    const ready = await site.settled();
    const uri = `nbd+unix:///?socket=${(ready.volumes[0]?.device ?? '').replace(/^unix:/, '')}`;
    await command('fio', [
      '--name=fill',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bs=64k',
      '--iodepth=4',
      '--io_size=96M',
      `--size=${BYTES}`,
      '--refill_buffers',
      '--randseed=5',
    ]);
    const status = JSON.stringify(await site.receiverGroup()) + JSON.stringify(await site.agentGroup());
    t.match(status, /JOURNAL_FULL/, 'the status says why');
    const full = await site.agentGroup();
    t.ok(BigInt(full.durableLsn) >= BigInt(ready.durableLsn), 'what was acknowledged before stays');
    t.equal(full.generation, ready.generation, 'the ring holds what the store cannot');
    await command('mount', ['-o', 'remount,size=512m', disk]);
    const again = await site.settled(120);
    t.equal(again.generation, ready.generation, 'with room again, the stream goes on by itself');
  },
);
