/** The most that can be replicated, against a bare gRPC stream between two processes. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Authority } from '../receiver/authority.js';
import { ended } from '../test/scenario/command.js';
import type { Scratch } from '../test/scenario/scratch.js';
import type { Measurement, Run } from './measurement.js';
import { alternating } from './pairs.js';
import { sequential } from './replication.js';
import { onProtected } from './sustained_load.js';
import { BenchVolume } from './volume.js';
import { warming } from './writes.js';

const END = fileURLToPath(new URL('bare_stream_end.js', import.meta.url));
const LIFETIME_MS = 86_400_000;

type End = ChildProcessByStdio<Writable, Readable, null>;

export const sustainedMeasurements: Measurement[] = [
  sustained('sustained', true),
  sustained('sustained/tls', false),
];

function sustained(name: string, plain: boolean): Measurement {
  return {
    name,
    unit: 'MB/s',
    peerName: `a bare gRPC stream, ${plain ? 'plain' : 'TLS'}: 1 MiB messages, 8 MiB outstanding`,
    bar: { must: 0.7, aim: 0.9, side: 'least' },
    conditions: {
      ...{ cache: 'buffered', transport: plain ? 'plain' : 'TLS', counts: 'durable' },
      load: '256 KiB, sequential, incompressible',
    },
    async run(scale, progress) {
      const volume = await BenchVolume.create(scale.volumeBytes);
      const load = sequential(0)(scale);
      const ours = (): Promise<Run> =>
        volume.protected({ attach: 'socket', cache: 'buffered', plain }, async (site, target) => {
          await onProtected(site, target, warming(load, scale));
          const { figures, seconds, broken, lagP99Ms } = await onProtected(site, target, load);
          return {
            value: (figures.requests * load.blockBytes) / seconds / 1e6,
            ...{ broken, seen: { lagP99Ms } },
          };
        });
      const peer = async (): Promise<Run> => {
        const value = await bareRate(volume.scratch, plain, scale.warmSeconds, scale.seconds);
        return { value, broken: [] };
      };
      try {
        return await alternating(scale, progress, ours, peer);
      } finally {
        await volume.clean();
      }
    },
  };
}

/** MB/s */
async function bareRate(
  scratch: Scratch,
  plain: boolean,
  warmSeconds: number,
  seconds: number,
): Promise<number> {
  const files: string[] = [];
  if (!plain) {
    const authority = await Authority.generate('bench');
    const { certificate, key } = await authority.credentials(LIFETIME_MS);
    files.push(scratch.path('receiver.pem'), scratch.path('authority.pem'));
    await writeFile(scratch.path('receiver.pem'), certificate + key);
    await writeFile(scratch.path('authority.pem'), authority.certificate);
  }
  const receiver = end(['receive', ...files.slice(0, 1)]);
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<number> => Number((await lines.next()).value);
  let sender: End | null = null;
  try {
    sender = end(['send', String(await line()), ...files.slice(1)]);
    await sleep(warmSeconds * 1000);
    const received = (): Promise<number> => {
      receiver.stdin.write('?\n');
      return line();
    };
    const [before, begin] = [await received(), performance.now()];
    await sleep(seconds * 1000);
    const [after, over] = [await received(), performance.now()];
    if (!(after > before)) throw new Error('nothing went through the bare stream');
    return (after - before) / ((over - begin) / 1000) / 1e6;
  } finally {
    for (const child of [sender, receiver]) {
      child?.kill('SIGKILL');
      if (child !== null) await ended(child, 20);
    }
  }
}

function end(words: string[]): End {
  return spawn(process.execPath, [END, ...words], { stdio: ['pipe', 'pipe', 'inherit'] });
}
