/** How much of a long, narrow line is used while there is something to send. */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Site } from '../test/scenario/site.js';
import { fio, type Load, type Target } from './fio.js';
import { watching } from './group_watch.js';
import type { Measurement, Run, Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { ShapingProxy, type Line } from './shaping_proxy.js';
import { BenchVolume } from './volume.js';

/** 200 Mbit/s, a round trip of 50 ms. */
const LINE: Line = { bytesPerSecond: 25e6, delayMs: 25 };
/** Of the volume: its initial sync goes over the line too. */
const VOLUME_BYTES = 64 << 20;
const SECONDS_MAX = 120;
const LOOK_MS = 20;
const PROBE_BYTES = 16 << 20;

export const wan: Measurement = {
  name: 'wan',
  unit: 'share of the line',
  peerName: null,
  bar: { must: 0.9, aim: 0.97, side: 'least' },
  conditions: {
    line: '200 Mbit/s, round trip 50 ms',
    load: 'a burst of incompressible 256 KiB writes',
    time: 'from a tenth of it captured until a tenth of it is left',
    transport: 'TLS',
  },
  async run(scale, progress) {
    const volume = await BenchVolume.create(VOLUME_BYTES);
    const ours = async (): Promise<Run> => {
      let proxy: ShapingProxy | null = null;
      const via = async (listen: string): Promise<string> => {
        proxy = await ShapingProxy.start(listen, LINE);
        volume.scratch.defer('line', () => proxy?.stop());
        return proxy.address;
      };
      return volume.protected({ attach: 'socket', cache: 'buffered', via }, async (site, target) => {
        if (proxy === null) throw new Error('the agent goes by no line');
        return usedWhileBehind(site, target, proxy, scale);
      });
    };
    try {
      progress(`the line itself: ${(await probe()).toFixed(3)} of its rate for plain TCP`);
      return await alternating(scale, progress, ours, null);
    } finally {
      await volume.clean();
    }
  },
};

async function usedWhileBehind(site: Site, target: Target, proxy: ShapingProxy, scale: Scale): Promise<Run> {
  const load: Load = {
    ...{ rw: 'write', blockBytes: 256 << 10, depth: 16, compressible: 0 },
    bytes: scale.wanBytes,
  };
  return watching(site, async (status) => {
    const { generation } = await status();
    const written = fio(target, load);
    let begin: { bytes: number; atMs: number } | null = null;
    for (const deadline = performance.now() + SECONDS_MAX * 1000; ; await sleep(LOOK_MS)) {
      const group = await status();
      const now = { bytes: proxy.passedBytes, atMs: performance.now() };
      const behind = Number(group.ringUsedBytes);
      if (begin === null && behind > scale.wanBytes / 10) begin = now;
      if (begin !== null && behind < scale.wanBytes / 10) {
        await written;
        const seconds = (now.atMs - begin.atMs) / 1000;
        const isWhole = group.generation === generation && group.state === 'protected';
        return {
          value: (now.bytes - begin.bytes) / seconds / LINE.bytesPerSecond,
          broken: isWhole ? [] : [`the group is ${group.state} in generation ${group.generation}`],
          seen: { seconds },
        };
      }
      if (performance.now() > deadline) throw new Error(`${behind} bytes are left after ${SECONDS_MAX} s`);
    }
  });
}

/** The share of the line that a plain TCP connection gets: what the proxy itself is good for. */
async function probe(): Promise<number> {
  let received = 0;
  const sink = net.createServer((socket) => socket.on('data', (bytes) => (received += bytes.length)));
  await new Promise<void>((resolve) => sink.listen(0, '127.0.0.1', resolve));
  const proxy = await ShapingProxy.start(`127.0.0.1:${(sink.address() as net.AddressInfo).port}`, LINE);
  const source = net.createConnection(Number(proxy.address.split(':')[1]), '127.0.0.1');
  try {
    source.write(Buffer.alloc(PROBE_BYTES));
    while (received === 0) await sleep(1);
    const [before, begin] = [received, performance.now()];
    while (received < PROBE_BYTES) await sleep(1);
    return (received - before) / ((performance.now() - begin) / 1000) / LINE.bytesPerSecond;
  } finally {
    source.destroy();
    proxy.stop();
    sink.close();
  }
}
