/** At half of the load that saturates: how long production waits for a write, and how old what is not yet safe gets. */
import { fio, type Load } from './fio.js';
import type { Measurement, Progress, Run, Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { onProtected } from './sustained_load.js';
import { BenchVolume } from './volume.js';
import { random4k, warming } from './writes.js';

const cache = 'buffered';
const conditions = { cache, load: 'half of what the replica keeps up with, 4 KiB random writes at depth 32' };

/** Runs `measure` with half of the load that was found to saturate the protected volume. */
async function atHalfLoad<T>(
  scale: Scale,
  progress: Progress,
  measure: (volume: BenchVolume, load: Load) => Promise<T>,
): Promise<T> {
  const volume = await BenchVolume.create(scale.volumeBytes);
  try {
    const full = random4k('randwrite', 32)(scale);
    const { figures, seconds } = await volume.protected({ attach: 'socket', cache }, async (site, target) => {
      await onProtected(site, target, warming(full, scale));
      return onProtected(site, target, { ...full, seconds: scale.quick ? 2 : 10 });
    });
    const rate = figures.requests / seconds / 2;
    progress(`half load: ${rate.toFixed(0)} IOPS`);
    return await measure(volume, { ...full, rate });
  } finally {
    await volume.clean();
  }
}

export const writeLatency: Measurement = {
  name: 'write-latency-p99',
  unit: 'µs (p99)',
  peerName: 'nbdkit file, not replicated, buffered, same load',
  bar: { must: 1.25, aim: 1.0, side: 'most' },
  conditions,
  run: (scale, progress) =>
    atHalfLoad(scale, progress, (volume, load) =>
      alternating(
        scale,
        progress,
        () =>
          volume.protected({ attach: 'socket', cache }, async (site, target): Promise<Run> => {
            await onProtected(site, target, warming(load, scale));
            const { figures, broken } = await onProtected(site, target, load);
            return { value: figures.p99Us, broken, seen: { p50Us: figures.p50Us } };
          }),
        () =>
          volume.unprotected(cache, async (target): Promise<Run> => {
            await fio(target, warming(load, scale));
            const { p99Us, p50Us } = await fio(target, load);
            return { value: p99Us, broken: [], seen: { p50Us } };
          }),
      ),
    ),
};

/** A new agent each time: its histogram, of the last minute, holds this load alone. */
export const rpo: Measurement = {
  name: 'rpo',
  unit: 'ms (p99)',
  peerName: null,
  bar: { must: 75, aim: 20, side: 'most' },
  conditions: { ...conditions, transport: 'TLS' },
  run: (scale, progress) =>
    atHalfLoad(scale, progress, (volume, load) =>
      alternating(
        scale,
        progress,
        () =>
          volume.protected({ attach: 'socket', cache }, async (site, target): Promise<Run> => {
            const { lagP99Ms, broken } = await onProtected(site, target, load);
            return { value: lagP99Ms, broken };
          }),
        null,
      ),
    ),
};
