/** PostgreSQL on a protected file system, against the same one on a plain loop device. */
import { mkdir } from 'node:fs/promises';
import { command } from '../test/scenario/command.js';
import { Cluster } from '../test/scenario/postgres.js';
import { Scratch } from '../test/scenario/scratch.js';
import type { Measurement, Run, Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { BenchVolume } from './volume.js';

const CLIENTS = 4;
const LAG_P99_MS_MAX = 1_000;
/** For initdb, its WAL, and the tables of --quick. */
const VOLUME_BYTES_MIN = 512 << 20;

export const pgbench: Measurement = {
  name: 'pgbench',
  unit: 'TPS',
  peerName: 'the same ext4 on a plain loop device, buffered',
  bar: { must: 0.95, aim: 1.0, side: 'least' },
  conditions: { cache: 'buffered', load: `TPC-B of pgbench, ${CLIENTS} clients, prepared statements` },
  async run(scale, progress) {
    const volume = await BenchVolume.create(Math.max(scale.volumeBytes, VOLUME_BYTES_MIN));
    const measured = (device: string): Promise<number> =>
      mounted(device, async (cluster) => {
        await transactions(cluster, scale.warmSeconds);
        await cluster.sql('CHECKPOINT');
        return transactions(cluster, scale.seconds);
      });
    try {
      await volume.plainLoop('buffered', (target) => filled(deviceOf(target), scale));
      return await alternating(
        scale,
        progress,
        () =>
          volume.protected({ attach: 'loop', cache: 'buffered' }, async (site, target): Promise<Run> => {
            const { generation } = await site.agentGroup();
            const value = await measured(deviceOf(target));
            const group = await site.settled();
            const lagP99Ms = Number(group.rpoLagP99Ns) / 1e6;
            const broken: string[] = [];
            if (group.generation !== generation) broken.push(`generation ${group.generation}`);
            if (lagP99Ms > LAG_P99_MS_MAX) broken.push(`lag p99 ${lagP99Ms.toFixed(0)} ms`);
            return { value, broken, seen: { lagP99Ms } };
          }),
        () =>
          volume.plainLoop('buffered', async (target): Promise<Run> => {
            return { value: await measured(deviceOf(target)), broken: [] };
          }),
      );
    } finally {
      await volume.clean();
    }
  },
};

function deviceOf(target: { uri: string } | { device: string }): string {
  if (!('device' in target)) throw new Error('a file system needs a device');
  return target.device;
}

async function filled(device: string, scale: Scale): Promise<void> {
  await command('mkfs.ext4', ['-q', '-F', device]);
  await mounted(
    device,
    async (cluster) => {
      await cluster.program('pgbench', ['-i', '-s', String(scale.pgbenchScale), '-q', 'postgres'], 600);
    },
    true,
  );
}

/** Runs `use` on the cluster of the device's file system; `isNew`: it is made first. */
async function mounted<T>(device: string, use: (cluster: Cluster) => Promise<T>, isNew = false): Promise<T> {
  const scratch = await Scratch.create('bench-pg');
  try {
    const mountPoint = scratch.path('mnt');
    await mkdir(mountPoint);
    await command('mount', [device, mountPoint]);
    scratch.defer('mount', () => command('umount', [mountPoint], { secondsMax: 300 }));
    const cluster = await Cluster.at(`${mountPoint}/data`, scratch.path('sockets'));
    if (isNew) await cluster.initialize();
    else await cluster.unlock();
    await cluster.start();
    scratch.defer('PostgreSQL', () => cluster.stop());
    // Sockets are elsewhere at each start, which the cluster is told then.
    return await use(cluster);
  } finally {
    await scratch.clean();
  }
}

async function transactions(cluster: Cluster, seconds: number): Promise<number> {
  const args = ['-n', '-M', 'prepared', '-c', String(CLIENTS), '-j', '1', '-T', String(seconds), 'postgres'];
  const text = await cluster.program('pgbench', args, seconds + 120);
  const tps = /^tps = ([\d.]+)/m.exec(text)?.[1];
  if (tps === undefined) throw new Error(`pgbench said nothing of its rate:\n${text}`);
  return Number(tps);
}
