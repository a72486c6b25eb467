/** What the agent occupies after a run that saturates it, beside the bound that its configuration sets for the ring. */
import { readFile } from 'node:fs/promises';
import type { Measurement } from './measurement.js';
import { onProtected } from './sustained_load.js';
import { BenchVolume } from './volume.js';
import { random4k } from './writes.js';

export const agentMemory: Measurement = {
  name: 'agent-memory',
  unit: 'MiB (PSS)',
  peerName: null,
  bar: null,
  conditions: { load: '4 KiB random writes at depth 32' },
  async run(scale, progress) {
    const volume = await BenchVolume.create(scale.volumeBytes);
    try {
      const load = random4k('randwrite', 32)(scale);
      const protection = { attach: 'socket', cache: 'buffered' } as const;
      const sample = await volume.protected(protection, async (site, target) => {
        const { broken } = await onProtected(site, target, load);
        const { ringBytes } = await site.agentGroup();
        const mib = await proportionalSet(site.agent.pid);
        progress(`${mib.toFixed(0)} MiB; the ring is ${(ringBytes / 2 ** 20).toFixed(0)} MiB of it at most`);
        return { value: mib, broken, steal: 0 };
      });
      return { ours: [sample], peer: [] };
    } finally {
      await volume.clean();
    }
  },
};

/** MiB. Not the resident set: that counts the ring's pages twice, since they are mapped twice. */
async function proportionalSet(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1]) / 1024;
}
