/** How long it takes until a client has the first bytes of a point of a long history. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { receiverControlService, type ExportInfo } from '../proto/control.js';
import { RpcClient } from '../service/rpc.js';
import { ended } from '../test/scenario/command.js';
import type { Site } from '../test/scenario/site.js';
import { writtenBack } from './calm.js';
import { fio } from './fio.js';
import type { Measurement, Progress, Runs, Sample, Scale } from './measurement.js';
import { BenchVolume, GROUP } from './volume.js';

const POINTS = 25;
/** Each needs a receiver of its own and an emptied page cache. */
const COLD_POINTS = 7;
const READ_BYTES = 4096;
const EXPORT_MS_MAX = 60_000;
const FIRST_BYTE = fileURLToPath(new URL('../../bench/first_byte.py', import.meta.url));

/** Random, but the same in every run. */
function* pseudorandom(seed: number): Generator<number, never> {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

/** A client that waits for its next request, so that only the request is measured. */
class Reader {
  private readonly child = spawn('/usr/bin/python3', [FIRST_BYTE], { stdio: ['pipe', 'pipe', 'inherit'] });
  private readonly answers = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();

  /** Resolves when the first bytes are there. */
  async read(uri: string, offset: number): Promise<void> {
    this.child.stdin.write(`${offset} ${uri}\n`);
    const answer = await this.answers.next();
    if (answer.value !== 'ok') throw new Error(`${uri} could not be read`);
  }
  async close(): Promise<void> {
    this.child.stdin.end();
    await ended(this.child, 20);
  }
}

/** Milliseconds from the request for an export to its first bytes at a random place. */
async function openedIn(site: Site, reader: Reader, lsn: bigint, offset: number): Promise<number> {
  const client = await RpcClient.openControl(site.receiverControl);
  try {
    const request = {
      group: GROUP,
      point: `lsn:${lsn}`,
      volumes: [],
      writable: false,
      device: false,
      socket: '',
      tcp: '',
      force: false,
    };
    const begun = performance.now();
    const info = await client.callUnary(receiverControlService.exportOpen, request, {
      timeoutMs: EXPORT_MS_MAX,
    });
    await reader.read(uriOf(info), offset);
    const ms = performance.now() - begun;
    await client.callUnary(receiverControlService.exportClose, { id: info.id }, { timeoutMs: EXPORT_MS_MAX });
    return ms;
  } finally {
    client.close();
  }
}

function uriOf({ volumes }: ExportInfo): string {
  const uri = volumes[0]?.uri;
  if (uri === undefined) throw new Error('the export has no volume');
  return uri;
}

/** Opens random points of a history of `scale.historyWrites` writes; `before` is done before each. */
async function measure(
  scale: Scale,
  progress: Progress,
  points: number,
  before: (site: Site) => Promise<void>,
): Promise<Runs> {
  const volume = await BenchVolume.create(scale.volumeBytes);
  const reader = new Reader();
  try {
    const ours = await volume.protected({ attach: 'socket', cache: 'buffered' }, async (site, target) => {
      const beginning = await site.agentGroup();
      await fio(target, { rw: 'randwrite', blockBytes: 4096, depth: 32, requests: scale.historyWrites });
      const group = await site.settled(600);
      progress(`a history of ${group.records} records`);
      const broken =
        group.generation === beginning.generation && group.records >= scale.historyWrites
          ? []
          : [`${group.records} records, generation ${group.generation}: the history is not whole`];
      const random = pseudorandom(1);
      const samples: Sample[] = [];
      for (let i = 0; i < points; i += 1) {
        await before(site);
        const lsn = 1n + BigInt(Math.floor(random.next().value * Number(group.durableLsn)));
        const block = Math.floor((random.next().value * scale.volumeBytes) / READ_BYTES);
        samples.push({ value: await openedIn(site, reader, lsn, block * READ_BYTES), broken, steal: 0 });
      }
      return samples;
    });
    return { ours, peer: [] };
  } finally {
    await reader.close();
    await volume.clean();
  }
}

export const openPoint: Measurement = {
  name: 'open-point',
  unit: 'ms to the first byte',
  peerName: null,
  bar: { must: 250, aim: 50, side: 'most' },
  conditions: { history: 'random 4 KiB writes' },
  run: (scale, progress) => measure(scale, progress, POINTS, () => Promise.resolve()),
};

/** The receiver was restarted and nothing of its store is in memory: the morning after, or the first look at a point. */
export const openPointCold: Measurement = {
  name: 'open-point-cold',
  unit: 'ms to the first byte',
  peerName: null,
  bar: null,
  conditions: { history: 'random 4 KiB writes', cache: 'nothing of the store is in memory' },
  run: (scale, progress) =>
    measure(scale, progress, scale.quick ? 2 : COLD_POINTS, async (site) => {
      await site.receiver.stop();
      await writtenBack();
      await writeFile('/proc/sys/vm/drop_caches', '3');
      await site.receiver.start();
      await site.settled();
    }),
};
