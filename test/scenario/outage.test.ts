/**
 * The receiver is away for longer than the ring lasts (R5, R6, R7): production goes on without an error, the instants
 * that were not captured are graded, a resync through the journal runs by itself, and history from before the outage
 * stays what it was.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { afterimage, Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'outage';
const BYTES = 64 << 20;

interface Timeline {
  spans: { grade: string; firstLsn: string; lastLsn: string; beginNs: string; endNs: string }[];
}

t.test(
  'an outage longer than the ring: production goes on, the gap is graded, history before it survives',
  async (t) => {
    const scratch = await Scratch.create('outage');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(BYTES), backing]);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'socket' }],
      ringBytes: '8MiB',
    });
    await site.start();
    const ready = await site.settled();
    const uri = `nbd+unix:///?socket=${(ready.volumes[0]?.device ?? '').replace(/^unix:/, '')}`;
    const write = (seed: number, megabytes: number): Promise<unknown> =>
      command('fio', [
        '--name=load',
        '--ioengine=nbd',
        `--uri=${uri}`,
        '--rw=randwrite',
        '--bs=16k',
        '--iodepth=8',
        `--io_size=${megabytes}M`,
        `--size=${BYTES}`,
        `--randseed=${seed}`,
        '--verify=crc32c',
        '--verify_fatal=1',
        '--verify_state_save=0',
      ]);
    const imageAt = async (point: string, force = false): Promise<string> => {
      const file = scratch.path('image.img');
      const flags = ['--yes', ...(force ? ['--force'] : [])];
      await afterimage([
        'recover',
        `${GROUP}/disk`,
        '--at',
        point,
        '--to',
        file,
        ...flags,
        '--control',
        site.receiverControl,
      ]);
      return createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
    };

    await write(1, 4);
    const before = await site.settled();
    const beforeImage = await imageAt(`lsn:${before.durableLsn}`);

    await site.receiver.stop();
    await write(2, 40);
    await site.waitFor(
      'tracking',
      30,
      (group) => group.state === 'tracking' || group.state === 'disconnected',
    );
    const outageNs = BigInt(Date.now()) * 1_000_000n;
    await write(3, 4);
    await site.receiver.start();
    await site.waitFor(
      'in a stream again',
      60,
      ({ generation, state }) => generation !== before.generation || state === 'protected',
    );
    const early = await imageAt(`lsn:${before.durableLsn}`).catch(String);
    const isKept = t.equal(early, beforeImage, 'a new generation takes nothing away (R6)');
    if (!isKept) return; // nothing that follows can go well
    const after = await site.settled();
    t.not(after.generation, before.generation, 'continuity could not be proven: a new generation');

    const timeline = await site.ask<Timeline>('timeline', GROUP);
    const grades = timeline.spans.map((span) => span.grade);
    t.ok(grades.includes('gap'), `the timeline shows the gap: ${grades.join(', ')}`);
    t.equal(grades.at(-1), 'ordered', 'and ends ordered');
    const gap = timeline.spans.find((span) => span.grade === 'gap');
    t.ok(gap && BigInt(gap.beginNs) < outageNs && BigInt(gap.endNs) > outageNs, 'the gap covers the outage');

    t.equal(
      await imageAt(`lsn:${before.durableLsn}`),
      beforeImage,
      'the point before the outage is what it was (R6)',
    );
    const instant = new Date(Number(outageNs / 1_000_000n)).toISOString();
    const refused = await afterimage(
      ['export', GROUP, '--at', instant, '--control', site.receiverControl, '--json'],
      [1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
    t.match(refused.stderr, /POINT_GRADE/, 'an instant inside the gap is refused');
    t.equal(refused.status, 4);

    const latest = await imageAt('latest');
    t.equal(await site.agent.stop(), 0);
    t.equal(
      createHash('sha256')
        .update(await readFile(backing))
        .digest('hex'),
      latest,
      'source and replica are equal again',
    );
  },
);

t.test('a receiver that comes back before the ring is full leaves no gap', async (t) => {
  const scratch = await Scratch.create('blink');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(BYTES), backing]);
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
    ringBytes: '64MiB',
  });
  await site.start();
  const ready = await site.settled();
  const uri = `nbd+unix:///?socket=${(ready.volumes[0]?.device ?? '').replace(/^unix:/, '')}`;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await site.receiver.kill(signal);
    await site.receiver.stop();
    await command('qemu-io', [
      '-f',
      'raw',
      '-c',
      `write -P 0x${signal === 'SIGTERM' ? '11' : '22'} 1M 8M`,
      '-c',
      'flush',
      uri,
    ]);
    await site.receiver.start();
    const group = await site.settled();
    t.equal(group.generation, ready.generation, `${signal} of the receiver: the stream went on`);
  }
  const timeline = await site.ask<Timeline>('timeline', GROUP);
  t.notOk(
    timeline.spans.some((span) => span.grade === 'gap'),
    'no gap',
  );
});

t.test(
  'a clean stop of the agent leaves nothing in doubt, a killed one is compared and resynced',
  async (t) => {
    const scratch = await Scratch.create('restart');
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
    await command('qemu-io', ['-f', 'raw', '-c', 'write -P 0x33 0 4M', '-c', 'flush', uri]);

    t.equal(await site.agent.stop(), 0);
    await site.agent.start();
    const clean = await site.settled();
    t.equal(clean.generation, ready.generation, 'after a clean stop the generation goes on');

    await command('qemu-io', ['-f', 'raw', '-c', 'write -P 0x44 8M 4M', '-c', 'flush', uri]);
    await site.agent.kill();
    await site.agent.start();
    const killed = await site.settled();
    t.not(killed.generation, ready.generation, 'after a kill the generation rises');
    await site.agent.stop();
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
    t.ok((await readFile(file)).equals(await readFile(backing)), 'and source and replica are equal');
  },
);
