/** Writes to a protected volume against the same file served without protection. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Site } from '../test/scenario/site.js';
import { fio, type Figures, type Load, type Target } from './fio.js';
import { undisturbed, type Measurement, type Sample, type Scale } from './measurement.js';
import { BenchVolume } from './volume.js';

const DURABLE_SECONDS_MAX = 1;

/** Runs the load on the protected volume, and checks what makes the figure honest: see `broken`. */
async function onOurs(
  site: Site,
  target: Target,
  load: Load,
): Promise<{ figures: Figures; broken: string[] }> {
  const before = await site.agentGroup();
  const figures = await fio(target, load);
  const end = Date.now();
  const broken: string[] = [];
  for (;;) {
    const group = await site.agentGroup();
    if (group.generation !== before.generation || group.state !== 'protected') {
      broken.push(`the group is ${group.state} in generation ${group.generation}`);
      break;
    }
    const seconds = (Date.now() - end) / 1000;
    if (group.durableLsn === group.capturedLsn) {
      // Asking takes a moment too: a new process each time.
      if (seconds > DURABLE_SECONDS_MAX) broken.push(`durable ${seconds.toFixed(1)} s after the end`);
      break;
    }
    if (seconds > 60) {
      broken.push('not durable after 60 s');
      break;
    }
    await sleep(50);
  }
  return { figures, broken };
}

interface WriteCase {
  name: string;
  attach: 'socket' | 'loop';
  bar: number | null;
  load(scale: Scale): Load;
  /** IOPS for requests of fixed size, bytes for a burst. */
  value(figures: Figures): number;
  unit: string;
}

function writeMeasurement(write: WriteCase): Measurement {
  return {
    name: write.name,
    unit: write.unit,
    peerName:
      write.attach === 'socket' ? 'nbdkit file, not replicated, buffered' : 'plain loop device, buffered',
    bar: write.bar,
    async run(scale, progress) {
      const volume = await BenchVolume.create(scale.volumeBytes);
      try {
        const load = write.load(scale);
        const ours: Sample[] = [];
        const peer: number[] = [];
        const use = async (target: Target): Promise<number> => write.value(await fio(target, load));
        for (let pair = 0; pair < scale.pairs; pair += 1) {
          const { figures, broken } = await undisturbed(
            () => volume.protected(write.attach, (site, target) => onOurs(site, target, load)),
            progress,
          );
          ours.push({ value: write.value(figures), broken });
          peer.push(
            await undisturbed(
              () => (write.attach === 'socket' ? volume.nbdkit(use) : volume.plainLoop(use)),
              progress,
            ),
          );
          progress(
            `pair ${pair + 1}: ours ${ours.at(-1)?.value.toFixed(0)}, peer ${peer.at(-1)?.toFixed(0)} ${write.unit}`,
          );
        }
        return { ours, peer };
      } finally {
        await volume.clean();
      }
    },
  };
}

const random4k =
  (depth: number) =>
  (scale: Scale): Load => ({
    rw: 'randwrite',
    blockBytes: 4096,
    depth,
    seconds: scale.seconds,
  });
const burst = (scale: Scale): Load => ({
  rw: 'write',
  blockBytes: 256 << 10,
  depth: 16,
  bytes: scale.burstBytes,
});
const iops = { unit: 'IOPS', value: (figures: Figures) => figures.iops };
const rate = { unit: 'MB/s', value: (figures: Figures) => figures.bytesPerSecond / 1e6 };

export const writeMeasurements: Measurement[] = [
  { name: 'nbd-randwrite-qd32', attach: 'socket' as const, bar: 0.5, load: random4k(32), ...iops },
  { name: 'nbd-randwrite-qd1', attach: 'socket' as const, bar: null, load: random4k(1), ...iops },
  { name: 'nbd-burst', attach: 'socket' as const, bar: null, load: burst, ...rate },
  { name: 'loop-randwrite-qd32', attach: 'loop' as const, bar: null, load: random4k(32), ...iops },
  { name: 'loop-burst', attach: 'loop' as const, bar: null, load: burst, ...rate },
].map(writeMeasurement);

/** Lag at half of the load that saturates: what an administrator sees on a host that has room. */
export const rpo: Measurement = {
  name: 'rpo',
  unit: 'ms (p99)',
  peerName: null,
  bar: null,
  async run(scale, progress) {
    const volume = await BenchVolume.create(scale.volumeBytes);
    try {
      const full = random4k(32)(scale);
      const saturated = await volume.protected('socket', (_site, target) => fio(target, full));
      progress(`saturated at ${saturated.iops.toFixed(0)} IOPS`);
      const ours: Sample[] = [];
      for (let round = 0; round < scale.pairs; round += 1) {
        // A new agent each time: its histogram holds this load alone.
        ours.push(
          await volume.protected('socket', async (site, target) => {
            const { broken } = await onOurs(site, target, { ...full, rate: saturated.iops / 2 });
            return { value: Number((await site.agentGroup()).rpoLagP99Ns) / 1e6, broken };
          }),
        );
        progress(`round ${round + 1}: p99 ${ours.at(-1)?.value.toFixed(1)} ms`);
      }
      return { ours, peer: [] };
    } finally {
      await volume.clean();
    }
  },
};
