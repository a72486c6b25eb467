/** Real file systems on a protected loop device: what is recovered passes their own checks after log replay. */
import { mkdir } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
import { Site } from './site.js';
t.setTimeout(600_000);
const GROUP = 'files';
const EXPORTS = 3;
const kinds = [
    { name: 'ext4', bytes: 256 << 20, make: ['mkfs.ext4', '-q', '-F'], check: ['e2fsck', '-f', '-n'] },
    { name: 'xfs', bytes: 320 << 20, make: ['mkfs.xfs', '-q', '-f'], check: ['xfs_repair', '-n'] },
];
for (const kind of kinds) {
    t.test(`${kind.name} recovered in the middle of its work is clean after log replay (seed ${SEED})`, async (t) => {
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
        await command('sh', [
            '-c',
            `cd "$1" && for i in $(seq 1 400); do
           mkdir -p d$((i % 20)) && head -c $((i * 97 % 60000)) /dev/urandom > d$((i % 20))/f$i
           [ $((i % 5)) -ne 0 ] || sync -f .
           [ $((i % 3)) -ne 0 ] || mv d$((i % 20))/f$i d$((i % 20))/g$i
           [ $((i % 7)) -ne 0 ] || rm -f d*/f$((i / 2))
         done && fstrim . && sync -f .`,
            'sh',
            mount,
        ], { secondsMax: 120 });
        const end = BigInt((await site.settled()).durableLsn);
        t.ok(end - begin > 100n, `${end - begin} records`);
        const random = pseudorandom(SEED);
        const pick = () => begin + BigInt(Math.ceil(random() * Number(end - begin)));
        // Mounting replays the log, as after a power cut; the checker must then find nothing to do. nouuid: the original is
        // mounted too.
        const options = kind.name === 'xfs' ? ['-o', 'nouuid'] : [];
        const replay = scratch.path('replay');
        await mkdir(replay);
        const check = async (device, what) => {
            await command('mount', [...options, device, replay]);
            await command('umount', [replay]);
            const [program = '', ...flags] = kind.check;
            const { status } = await command(program, [...flags, device], { secondsMax: 60 });
            t.equal(status, 0, `${what} is clean`);
        };
        for (let i = 0; i < EXPORTS; i += 1) {
            const point = `lsn:${pick()}`;
            const opened = await site.ask('export', GROUP, '--at', point, '--writable', '--device');
            await check(opened.volumes[0]?.device ?? '', `an export of ${point}`);
            await site.ask('export', 'close', opened.id);
        }
        const point = `lsn:${pick()}`;
        const file = scratch.path('recovered.img');
        await site.ask('recover', `${GROUP}/disk`, '--at', point, '--to', file);
        const copy = (await command('losetup', ['--find', '--show', file])).stdout.trim();
        scratch.defer('loop device', () => command('losetup', ['-d', copy]));
        await check(copy, `a recovered image of ${point}`);
    });
}
//# sourceMappingURL=filesystems.test.js.map