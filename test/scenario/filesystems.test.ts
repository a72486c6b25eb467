/** Real file systems on a protected loop device: what is recovered passes their own checks after log replay. */
import { mkdir } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'files';
const POINTS = 4;

interface Export {
  id: string;
  volumes: { device: string }[];
}

const kinds = [
  { name: 'ext4', bytes: 256 << 20, make: ['mkfs.ext4', '-q', '-F'], check: ['e2fsck', '-f', '-n'] },
  { name: 'xfs', bytes: 320 << 20, make: ['mkfs.xfs', '-q', '-f'], check: ['xfs_repair', '-n'] },
];

for (const kind of kinds) {
  t.test(`${kind.name} recovered in the middle of its work is clean after log replay`, async (t) => {
    const scratch = await Scratch.create(kind.name);
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(kind.bytes), backing]);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'loop' }],
    });
    await site.start();
    const device = (await site.agentGroup()).volumes[0]?.device ?? '';
    t.match(device, /^\/dev\/loop\d+$/);
    await command(kind.make[0] ?? '', [...kind.make.slice(1), device]);
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [device, mount]);
    scratch.defer('mount', () => command('umount', [mount]));
    const begin = BigInt((await site.settled()).durableLsn);

    // Many small files, appended, renamed, removed, synced; then discards.
    await command(
      'sh',
      [
        '-c',
        `cd "$1" && for i in $(seq 1 400); do
           mkdir -p d$((i % 20)) && head -c $((i * 97 % 60000)) /dev/urandom > d$((i % 20))/f$i
           [ $((i % 5)) -ne 0 ] || sync -f .
           [ $((i % 3)) -ne 0 ] || mv d$((i % 20))/f$i d$((i % 20))/g$i
           [ $((i % 7)) -ne 0 ] || rm -f d*/f$((i / 2))
         done && fstrim . && sync -f .`,
        'sh',
        mount,
      ],
      { secondsMax: 120 },
    );
    const end = BigInt((await site.settled()).durableLsn);
    t.ok(end - begin > 100n, `${end - begin} records`);

    for (let i = 1; i <= POINTS; i += 1) {
      const lsn = begin + ((end - begin) * BigInt(i)) / BigInt(POINTS);
      const opened = await site.ask<Export>('export', GROUP, '--at', `lsn:${lsn}`, '--writable', '--device');
      const exported = opened.volumes[0]?.device ?? '';
      const replay = scratch.path(`replay-${i}`);
      await mkdir(replay);
      // Mounting replays the log, as after a power cut; the checker must then find nothing to do. nouuid: the
      // original is mounted too.
      await command('mount', [...(kind.name === 'xfs' ? ['-o', 'nouuid'] : []), exported, replay]);
      await command('umount', [replay]);
      const checked = await command(kind.check[0] ?? '', [...kind.check.slice(1), exported], {
        secondsMax: 60,
      });
      t.equal(checked.status, 0, `lsn:${lsn} is clean`);
      await site.ask('export', 'close', opened.id);
    }
  });
}
