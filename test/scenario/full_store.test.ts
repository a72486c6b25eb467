/** The disk of the store is full: ingest is refused, production goes on, and protection returns by itself. */
import { mkdir, readFile } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { nbdUri, Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'full';
const BYTES = 32 << 20;

for (const ringBytes of ['256MiB', '8MiB']) {
  const isLarge = ringBytes === '256MiB';
  t.test(`a store without space, and a ring of ${ringBytes}`, async (t) => {
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
      ringBytes,
      segmentBytes: '4MiB',
      store: `${disk}/store`,
    });
    await site.start();
    const ready = await site.settled();
    const uri = nbdUri(ready);
    await command('qemu-io', ['-f', 'raw', '-c', 'write -P 0x11 1M 4M', '-c', 'flush', uri]);
    const { durableLsn } = await site.settled();
    const before = await readFile(backing);
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
      // A large ring takes all of it at once: the disk is full a little later.
      ...(isLarge ? [] : ['--rate=16M']),
    ]);
    const full = await site.waitFor('told that the store is full', 60, (group) =>
      JSON.stringify(group).includes('JOURNAL_FULL'),
    );
    if (isLarge) {
      t.ok(BigInt(full.durableLsn) >= BigInt(durableLsn), 'what was acknowledged before stays');
      t.equal(full.generation, ready.generation, 'the ring holds what the store cannot');
    } else {
      await site.waitFor('tracking', 60, ({ state }) => state === 'tracking');
    }
    await command('mount', ['-o', 'remount,size=512m', disk]);
    const again = await site.settled(120);
    if (isLarge) t.equal(again.generation, ready.generation, 'with room again, the stream goes on by itself');
    else t.not(again.generation, ready.generation, 'with room again, it is resynced by itself');
    const production = await readFile(backing);
    t.notOk(production.equals(before));
    t.ok(
      (await site.recovered('disk', 'latest')).equals(production),
      'the latest point is what production holds',
    );
    t.ok(
      (await site.recovered('disk', `lsn:${durableLsn}`)).equals(before),
      'the point before is what it was',
    );
  });
}
