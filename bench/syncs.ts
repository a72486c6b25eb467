/** Copying a whole volume, and comparing one that is in doubt as a whole. */
import { open, readdir, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VolumeStatus } from '../proto/control.js';
import { command } from '../test/scenario/command.js';
import { Scratch } from '../test/scenario/scratch.js';
import { Site } from '../test/scenario/site.js';
import { watching } from './group_watch.js';
import type { Measurement, Run } from './measurement.js';
import { alternating } from './pairs.js';
import { BenchVolume, GROUP, nbdkit, VOLUME } from './volume.js';

/** Data and holes by turns. */
const STRETCH_BYTES = 4 << 20;
const LOOK_MS = 10;
const SECONDS_MAX = 600;

const volumeOf = (backing: string): { name: string; backing: string; attach: 'socket' } => ({
  ...{ name: VOLUME, backing, attach: 'socket' },
});

export const initialSyncs: Measurement[] = [
  initialSync('initial-sync', true),
  initialSync('initial-sync/tls', false),
];

/** Both copy into a new, empty file. */
function initialSync(name: string, plain: boolean): Measurement {
  return {
    name,
    unit: 'MB/s',
    peerName: 'nbdcopy --flush, plain, from nbdkit file to nbdkit file',
    bar: plain ? { must: 0.7, aim: 1.0, side: 'least' } : null,
    conditions: {
      volume: 'half of it holes, 4 MiB of each by turns',
      time: 'from the start of the agent’s process to "protected"',
      ...{ cache: 'buffered', transport: plain ? 'plain' : 'TLS on ours only' },
    },
    async run(scale, progress) {
      const scratch = await Scratch.create('bench');
      const source = scratch.path('source.img');
      await halfEmpty(source, scale.syncBytes);
      const rate = (began: number): number => scale.syncBytes / ((performance.now() - began) / 1000) / 1e6;
      const ours = async (): Promise<Run> => {
        const run = await Scratch.create('bench-ours');
        try {
          const site = await Site.create(run, { group: GROUP, volumes: [volumeOf(source)], plain });
          await site.receiver.start();
          const began = performance.now();
          await site.agent.start();
          const startMs = performance.now() - began;
          await watched(site, ({ state }) => state === 'protected');
          return { value: rate(began), broken: [], seen: { startMs } };
        } finally {
          await run.clean();
        }
      };
      const peer = async (): Promise<Run> => {
        const target = scratch.path('target.img');
        await rm(target, { force: true });
        await emptyFile(target, scale.syncBytes);
        await inMemory(source);
        return nbdkit(scratch.path('source.sock'), source, (from) =>
          nbdkit(scratch.path('target.sock'), target, async (to) => {
            const began = performance.now();
            await command('nbdcopy', ['--flush', from.uri, to.uri], { secondsMax: SECONDS_MAX });
            return { value: rate(began), broken: [] };
          }),
        );
      };
      try {
        await peer(); // what was never in memory before takes it twice as long
        return await alternating(scale, progress, ours, peer);
      } finally {
        await scratch.clean();
      }
    },
  };
}

export const resyncScan: Measurement = {
  name: 'resync-scan',
  unit: 'MB/s',
  peerName: 'sha256sum of the same file',
  bar: { must: 1.5, aim: 3, side: 'least' },
  conditions: {
    doubt: 'the whole volume, and nothing differs: the agent was killed, and its dirty log is gone',
    time: 'from the first block that was compared to the last',
    cache: 'buffered, the file in memory',
  },
  async run(scale, progress) {
    const volume = await BenchVolume.create(scale.volumeBytes);
    const ours = (): Promise<Run> =>
      volume.protected({ attach: 'socket', cache: 'buffered' }, async (site) => {
        await site.agent.kill();
        const logs = `${site.agentState}/dirty`;
        for (const log of await readdir(logs)) await rm(`${logs}/${log}`);
        await site.agent.start();
        const { first, last } = await watched(
          site,
          ({ state, resyncComparedBytes }) => state === 'protected' && resyncComparedBytes > 0n,
        );
        const compared = Number(last.volume.resyncComparedBytes);
        const broken: string[] = [];
        if (compared !== volume.bytes) broken.push(`${compared} of ${volume.bytes} bytes were compared`);
        if (last.volume.resyncDifferingBytes > 0n) broken.push('something differed');
        const bytes = compared - Number(first?.volume.resyncComparedBytes ?? 0n);
        const seconds = (last.atMs - (first?.atMs ?? Number.NaN)) / 1000;
        return { value: bytes / seconds / 1e6, broken };
      });
    const peer = async (): Promise<Run> => {
      await inMemory(volume.file);
      const began = performance.now();
      await command('sha256sum', [volume.file], { secondsMax: SECONDS_MAX });
      return { value: volume.bytes / ((performance.now() - began) / 1000) / 1e6, broken: [] };
    };
    try {
      return await alternating(scale, progress, ours, peer);
    } finally {
      await volume.clean();
    }
  },
};

interface Look {
  volume: VolumeStatus;
  atMs: number;
}

/** Looks at the volume until it is what is asked for: the first look at which something was compared, and the last one. */
async function watched(
  site: Site,
  isDone: (volume: VolumeStatus) => boolean,
): Promise<{ first: Look | null; last: Look }> {
  return watching(site, async (status) => {
    let first: Look | null = null;
    for (const begin = performance.now(); ; await sleep(LOOK_MS)) {
      const volume = (await status()).volumes[0];
      if (volume === undefined) throw new Error('the agent has no volume');
      const look = { volume, atMs: performance.now() };
      if (volume.resyncComparedBytes > 0n) first ??= look;
      if (isDone(volume)) return { first, last: look };
      if (look.atMs - begin > SECONDS_MAX * 1000) throw new Error(`still ${volume.state}`);
    }
  });
}

/** An agent that starts drops what is cached of a backing. */
async function inMemory(file: string): Promise<void> {
  await command('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M'], { secondsMax: SECONDS_MAX });
}

async function emptyFile(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'wx');
  try {
    await handle.truncate(bytes);
  } finally {
    await handle.close();
  }
}

async function halfEmpty(file: string, bytes: number): Promise<void> {
  const data = randomBytes(STRETCH_BYTES);
  const handle = await open(file, 'wx');
  try {
    await handle.truncate(bytes);
    for (let at = 0; at < bytes; at += 2 * STRETCH_BYTES) {
      data.writeUInt32LE(at / STRETCH_BYTES);
      await handle.write(data, 0, data.length, at);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}
