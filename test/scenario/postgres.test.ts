/** A real database: at random points the recovered cluster starts, is sound, and has every commit that it promised. */
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { formatTime } from '../../proto/time.js';
import { command } from './command.js';
import { acknowledgedBy, Cluster, rowOf } from './postgres.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
import { Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'database';
const SECONDS = Number(process.env['AFTERIMAGE_SECONDS'] ?? 10);
const POINTS = Number(process.env['AFTERIMAGE_POINTS'] ?? 8);
const SCALE = 2;

interface Export {
  id: string;
  volumes: { device: string }[];
}

t.test(
  `PostgreSQL rewound to random instants has every commit acknowledged before them (seed ${SEED})`,
  async (t) => {
    const scratch = await Scratch.create('postgres');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(512 << 20), backing]);
    await command('mkfs.ext4', ['-q', '-F', backing]);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'data', backing, attach: 'loop' }],
    });
    await site.start();
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [(await site.agentGroup()).volumes[0]?.device ?? '', mount]);
    scratch.defer('mount', () => command('umount', [mount]));
    const production = await Cluster.at(`${mount}/pg`, scratch.path('production'));
    await production.initialize();
    await production.start();
    scratch.defer('PostgreSQL', () => production.stop());
    await production.prepare(SCALE);
    await site.settled();

    const load = await production.load(scratch.path('load'), 4, SECONDS, SCALE);
    scratch.defer('pgbench', () => load.finish(true));
    await sleep(500);
    const logged = await load.finish();
    t.equal(load.failure(), null, 'no client met an error');
    const commits = acknowledgedBy(logged, await production.ledger());
    const lateUs = ((commits[0]?.timeNs ?? 0n) - (logged[0]?.timeNs ?? 0n)) / 1000n;
    t.comment(`the first commit is taken to be ${lateUs} µs later than pgbench logged it`);
    t.ok(commits.length > 100, `${commits.length} transactions were committed`);
    const settled = await site.settled();
    t.equal(settled.state, 'protected');

    const times = commits.map((commit) => commit.timeNs).sort((a, b) => (a < b ? -1 : 1));
    const random = pseudorandom(SEED);
    for (let i = 0; i < POINTS; i += 1) {
      const timeNs = times[Math.floor(random() * times.length)] as bigint;
      const opened = await site.ask<Export>(
        'export',
        GROUP,
        '--at',
        formatTime(timeNs),
        '--writable',
        '--device',
      );
      const rewound = scratch.path(`rewound-${i}`);
      await mkdir(rewound);
      await command('mount', [opened.volumes[0]?.device ?? '', rewound]);
      try {
        const cluster = await Cluster.at(`${rewound}/pg`, scratch.path(`recovered-${i}`));
        await cluster.unlock();
        await cluster.start();
        try {
          const rows = await cluster.ledger();
          const promised = commits.filter((commit) => commit.timeNs <= timeNs);
          const missing = promised.filter(({ client, sequence }) => !rows.has(rowOf(client, sequence)));
          t.same(
            missing,
            [],
            `${formatTime(timeNs)}: ${promised.length} commits promised, ${rows.size} there`,
          );
          await cluster.program('pg_amcheck', ['--install-missing', '--heapallindexed', '--all', '--jobs=2']);
          t.pass('pg_amcheck finds nothing');
        } finally {
          await cluster.stop();
        }
      } finally {
        await command('umount', [rewound]);
        await site.ask('export', 'close', opened.id);
      }
    }
  },
);
