/** How long it takes to open a point of a long history. */
import { fio } from './fio.js';
import type { Measurement, Sample } from './measurement.js';
import { BenchVolume, GROUP } from './volume.js';

const POINTS = 25;

/** Random, but the same in every run. */
function* pseudorandom(seed: number): Generator<number> {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

export const openPoint: Measurement = {
  name: 'open-point',
  unit: 'ms to the first byte',
  peerName: null,
  bar: 250,
  async run(scale, progress) {
    const volume = await BenchVolume.create(scale.volumeBytes);
    try {
      const ours = await volume.protected('socket', async (site, target) => {
        await fio(target, { rw: 'randwrite', blockBytes: 4096, depth: 32, requests: scale.historyWrites });
        const group = await site.settled(600);
        progress(`a history of ${group.records} records`);
        const random = pseudorandom(1);
        const samples: Sample[] = [];
        for (let i = 0; i < POINTS; i += 1) {
          const lsn = 1n + BigInt(Math.floor((random.next().value as number) * Number(group.durableLsn)));
          const opened = await site.ask<{ id: string; openedInUs: number }>(
            'export',
            GROUP,
            '--at',
            `lsn:${lsn}`,
          );
          samples.push({ value: opened.openedInUs / 1000, broken: [] });
          await site.ask('export', 'close', opened.id);
        }
        return samples;
      });
      return { ours, peer: [] };
    } finally {
      await volume.clean();
    }
  },
};
