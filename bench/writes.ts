/** A protected volume against the same file served without protection, in the same cache mode. */
import type { Site } from '../test/scenario/site.js';
import { fio, type Figures, type Load, type Target } from './fio.js';
import { least, type Bar, type Measurement, type Run, type Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { onProtected } from './sustained_load.js';
import { BenchVolume, CACHE_MODES, type CacheMode } from './volume.js';

export const random4k = (rw: 'randwrite' | 'randread', depth: number) => {
  return (scale: Scale): Load => ({ rw, blockBytes: 4096, depth, seconds: scale.seconds });
};
const burst = (scale: Scale): Load => ({
  rw: 'write',
  blockBytes: 256 << 10,
  depth: 16,
  bytes: scale.burstBytes,
});

interface Case {
  name: string;
  attach: 'socket' | 'loop';
  /** What counts: writes that became durable at the receiver, or what the host is done with. */
  counts: 'durable' | 'done';
  unit: 'IOPS' | 'MB/s';
  bar: Bar;
  load: (scale: Scale) => Load;
}
const sustained = { counts: 'durable', unit: 'IOPS' } as const;
const atOnce = { counts: 'done', unit: 'MB/s' } as const;
const [qd1, qd32] = [random4k('randwrite', 1), random4k('randwrite', 32)];
const reads = { counts: 'done', unit: 'IOPS', load: random4k('randread', 32) } as const;
const CASES: Case[] = [
  { name: 'nbd-randwrite-qd32', attach: 'socket', bar: least(0.85, 1.1), load: qd32, ...sustained },
  { name: 'nbd-randwrite-qd1', attach: 'socket', bar: least(1.0, 1.5), load: qd1, ...sustained },
  { name: 'nbd-randread-qd32', attach: 'socket', bar: least(1.0, 1.3), ...reads },
  { name: 'nbd-burst', attach: 'socket', bar: least(0.95, 1.1), load: burst, ...atOnce },
  { name: 'loop-randwrite-qd32', attach: 'loop', bar: least(0.6, 0.9), load: qd32, ...sustained },
  { name: 'loop-randwrite-qd1', attach: 'loop', bar: least(0.95, 1.1), load: qd1, ...sustained },
  { name: 'loop-burst', attach: 'loop', bar: least(0.95, 1.1), load: burst, ...atOnce },
];

/** The product's default mode carries the bar; the other one is reported. */
export const writeMeasurements: Measurement[] = CASES.flatMap((one) =>
  CACHE_MODES.map((cache) => writeMeasurement(one, cache)),
);

/** The same load for a moment, so that neither side pays for first touches. */
export function warming(load: Load, scale: Scale): Load {
  return load.seconds === undefined ? load : { ...load, seconds: scale.warmSeconds };
}

function writeMeasurement({ name, attach, counts, unit, bar, load }: Case, cache: CacheMode): Measurement {
  const isDefault = cache === 'buffered';
  return {
    name: isDefault ? name : `${name}/${cache}`,
    unit,
    peerName: peerName(attach, cache),
    bar: isDefault ? bar : null,
    conditions: { cache, counts, flush: 'at the end of every run, within its time' },
    async run(scale, progress) {
      const volume = await BenchVolume.create(scale.volumeBytes);
      const wanted = load(scale);
      const inUnit = ({ requests }: Figures, seconds: number): number =>
        (unit === 'IOPS' ? requests : (requests * wanted.blockBytes) / 1e6) / seconds;
      const ours = async (site: Site, target: Target): Promise<Run> => {
        await onProtected(site, target, warming(wanted, scale), counts);
        const { figures, seconds, broken, lagP99Ms } = await onProtected(site, target, wanted, counts);
        if (counts === 'done') return { value: inUnit(figures, figures.seconds), broken };
        return { value: inUnit(figures, seconds), broken, seen: { lagP99Ms } };
      };
      const peer = async (target: Target): Promise<Run> => {
        await fio(target, warming(wanted, scale));
        const figures = await fio(target, wanted);
        return { value: inUnit(figures, figures.seconds), broken: [] };
      };
      try {
        return await alternating(
          scale,
          progress,
          () => volume.protected({ attach, cache }, ours),
          () => (attach === 'socket' ? volume.unprotected(cache, peer) : volume.plainLoop(cache, peer)),
        );
      } finally {
        await volume.clean();
      }
    },
  };
}

function peerName(attach: 'socket' | 'loop', cache: CacheMode): string {
  if (attach === 'loop') return `plain loop device, ${cache}`;
  return cache === 'buffered'
    ? 'nbdkit file, not replicated, buffered'
    : 'qemu-nbd --cache=none --aio=native, not replicated';
}
