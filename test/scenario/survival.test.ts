/**
 * The agent of a loop volume dies again and again (promise R7), under fio that reads back what it has written: no I/O
 * error, nothing lost, one generation from the first write to the last, and no resync.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { command, ended } from './command.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
import { Site } from './site.js';

t.setTimeout(600_000);

const GROUP = 'survival';
const BYTES = 64 << 20;
const KILLS = 6;
const PAUSE_MS_MAX = 1500;

interface FioReport {
  jobs: { error: number; write: { total_ios: number; clat_ns: { max: number } } }[];
}

t.test(
  `an agent that is killed again and again is not noticed by who uses its device (seed ${SEED})`,
  async (t) => {
    const scratch = await Scratch.create('survival');
    t.teardown(() => scratch.clean());
    const random = pseudorandom(SEED);
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(BYTES), backing]);
    const site = await Site.create(scratch, {
      group: GROUP,
      volumes: [{ name: 'disk', backing, attach: 'loop' }],
      supervised: true,
    });
    await site.start();
    const before = await site.settled();
    const device = before.volumes[0]?.device ?? '';
    t.match(device, /^\/dev\/loop\d+$/);

    const report = scratch.path('fio.json');
    const seconds = Math.ceil((KILLS * PAUSE_MS_MAX) / 1000) + 2;
    const fio = spawn(
      'fio',
      [
        '--name=survival',
        `--filename=${device}`,
        '--rw=randwrite',
        '--bs=4k',
        '--iodepth=16',
        '--ioengine=libaio',
        '--direct=1',
        `--size=${BYTES}`,
        '--time_based',
        `--runtime=${seconds}`,
        '--verify=crc32c',
        '--verify_backlog=512',
        '--verify_fatal=1',
        `--randseed=${SEED}`,
        '--output-format=json',
        `--output=${report}`,
      ],
      { stdio: 'ignore' },
    );
    scratch.defer('fio', () => void fio.kill('SIGKILL'));

    const pids = new Set<number>();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await sleep(300 + random() * (PAUSE_MS_MAX - 300));
      const pid = site.agent.supervisedPid();
      if (pid === null) continue;
      pids.add(pid);
      process.kill(pid, 'SIGKILL');
    }
    t.equal(await ended(fio, seconds + 60), 0, 'fio read back what it had written');
    const { jobs } = JSON.parse(await readFile(report, 'utf8')) as FioReport;
    t.equal(jobs[0]?.error, 0, 'without an I/O error');
    const pauseMs = (jobs[0]?.write.clat_ns.max ?? 0) / 1e6;
    t.comment(
      `${pids.size} agents killed; ${jobs[0]?.write.total_ios} writes; longest pause ${pauseMs.toFixed(0)} ms`,
    );
    t.ok(pids.size >= KILLS / 2, 'most kills found an agent to kill');

    const group = await site.settled();
    t.equal(group.generation, before.generation, 'the same stream goes on: no gap, no resync');
    const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
    t.same(
      spans.map(({ grade }) => grade).filter((grade) => grade !== 'syncing'),
      ['ordered'],
    );
    const latest = await site.recovered('disk', 'latest');
    t.ok(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
  },
);
