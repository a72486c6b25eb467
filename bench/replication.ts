/** Protected and replicating against QEMU's mirror, which has no history: what is written, and what it costs. */
import { cpuSeconds } from './cpu_time.js';
import { fio, type Load } from './fio.js';
import { least, most, type Bar, type Measurement, type Run, type Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { onProtected } from './sustained_load.js';
import { BenchVolume, CACHE_MODES, type CacheMode } from './volume.js';
import { random4k, warming } from './writes.js';

const GIB = 2 ** 30;

interface Case {
  name: string;
  bar: Bar;
  /** Without TLS where the peer has none either. */
  plain: boolean;
  /** Megabytes a second, requests a second, or CPU seconds per GiB. */
  unit: 'MB/s' | 'IOPS' | 'CPU s/GiB';
  load: (scale: Scale) => Load;
}
const random = random4k('randwrite', 32);
export const sequential =
  (compressible: number) =>
  (scale: Scale): Load => ({
    ...{ rw: 'write', blockBytes: 256 << 10, depth: 16 },
    ...{ seconds: scale.seconds, compressible },
  });
const CASES: Case[] = [
  { name: 'mirror-randwrite-qd32', bar: least(1.5, 3), plain: true, unit: 'IOPS', load: random },
  { name: 'mirror-seqwrite', bar: least(1.3, 2), plain: true, unit: 'MB/s', load: sequential(50) },
  { name: 'mirror-seqwrite-tls', bar: least(0.7, 1), plain: false, unit: 'MB/s', load: sequential(0) },
  { name: 'cpu', bar: most(0.7, 0.4), plain: true, unit: 'CPU s/GiB', load: random },
  { name: 'cpu/sequential', bar: most(0.7, 0.4), plain: true, unit: 'CPU s/GiB', load: sequential(50) },
];

export const replicationMeasurements: Measurement[] = CASES.flatMap((one) =>
  CACHE_MODES.map((cache) => replicationMeasurement(one, cache)),
);

function replicationMeasurement({ name, bar, plain, unit, load }: Case, cache: CacheMode): Measurement {
  const isDefault = cache === 'buffered';
  return {
    name: isDefault ? name : `${name}/${cache}`,
    unit,
    peerName: `qemu mirror, write-blocking, ${cache}`,
    bar: isDefault ? bar : null,
    conditions: { cache, transport: plain ? 'plain' : 'TLS on ours only', counts: 'durable' },
    async run(scale, progress) {
      const volume = await BenchVolume.create(scale.volumeBytes);
      const wanted = load(scale);
      const inUnit = (requests: number, seconds: number, cpu: number): number => {
        const bytes = requests * wanted.blockBytes;
        if (unit === 'CPU s/GiB') return cpu / (bytes / GIB);
        return unit === 'IOPS' ? requests / seconds : bytes / seconds / 1e6;
      };
      const ours = (): Promise<Run> =>
        volume.protected({ attach: 'socket', cache, plain }, async (site, target) => {
          await onProtected(site, target, warming(wanted, scale));
          const { figures, seconds, cpuSeconds: cpu, ...rest } = await onProtected(site, target, wanted);
          const { broken, lagP99Ms } = rest;
          return { value: inUnit(figures.requests, seconds, cpu), broken, seen: { lagP99Ms } };
        });
      const peer = (): Promise<Run> =>
        volume.mirrored(cache, async ({ pids }, target) => {
          await fio(target, warming(wanted, scale));
          const before = await cpuSeconds(pids);
          const { requests, seconds } = await fio(target, wanted);
          const cpu = (await cpuSeconds(pids)) - before;
          return { value: inUnit(requests, seconds, cpu), broken: [] };
        });
      try {
        return await alternating(scale, progress, ours, peer);
      } finally {
        await volume.clean();
      }
    },
  };
}
