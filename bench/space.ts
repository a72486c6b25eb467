/** What the journal adds to what it holds, read by the independent reader of its format. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { readJournal } from '../test/replay/journal.js';
import { memberDirectory } from '../test/scenario/site.js';
import { fio, type Load } from './fio.js';
import type { Measurement, Scale } from './measurement.js';
import { BenchVolume } from './volume.js';

export const spaceMeasurements: Measurement[] = [
  space('space', '4 KiB random writes, half-compressible', ({ historyWrites }) => ({
    ...{ rw: 'randwrite', blockBytes: 4096, depth: 32, requests: historyWrites },
  })),
  space('space/sequential', '256 KiB sequential writes, half-compressible', ({ burstBytes }) => ({
    ...{ rw: 'write', blockBytes: 256 << 10, depth: 16, bytes: burstBytes },
  })),
];

function space(name: string, history: string, load: (scale: Scale) => Load): Measurement {
  return {
    name,
    unit: 'journal/payload bytes',
    peerName: null,
    bar: { must: 1.03, aim: 1.01, side: 'most' },
    conditions: { history },
    async run(scale, progress) {
      const volume = await BenchVolume.create(scale.volumeBytes);
      try {
        const sample = await volume.protected(
          { attach: 'socket', cache: 'buffered' },
          async (site, target) => {
            const { generation: begun } = await site.agentGroup();
            await fio(target, load(scale));
            const { records, generation } = await site.settled(600);
            const broken = generation === begun ? [] : [`generation ${generation}: not all of it is there`];
            await site.agent.end();
            await site.receiver.end();
            const { journal, payload, runs } = await weighed(await memberDirectory(site.store));
            progress(`${records} records: ${journal} bytes for ${payload}`);
            const seen = { runBytesPerByte: runs / payload };
            return { value: journal / payload, broken, steal: 0, seen };
          },
        );
        return { ours: [sample], peer: [] };
      } finally {
        await volume.clean();
      }
    },
  };
}

/** Bytes of a member's segments up to the end of their frames, of the payload in these as it is stored, and of the runs. */
async function weighed(directory: string): Promise<{ journal: number; payload: number; runs: number }> {
  let [journal, payload] = [0, 0];
  for await (const segment of readJournal(directory)) {
    const last = segment.frames.at(-1);
    journal += last === undefined ? 0 : last.position + last.header.frameBytes;
    for (const { header } of segment.frames) payload += header.payloadBytes;
  }
  const files = path.join(directory, 'journal');
  const names = (await readdir(files)).filter((name) => name.endsWith('.run'));
  const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(files, name))).size));
  return { journal, payload, runs: sizes.reduce((sum, size) => sum + size, 0) };
}
