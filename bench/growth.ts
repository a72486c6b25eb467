/** What a write costs when there are more volumes, or more agents, and the load is the same in all. */
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { groupOf, nbdUri, Site, afterimage, type GroupReport } from '../test/scenario/site.js';
import { Daemon } from '../test/scenario/daemon.js';
import { joinOffline } from '../test/scenario/joined.js';
import { Scratch } from '../test/scenario/scratch.js';
import { cpuSeconds } from './cpu_time.js';
import { fio } from './fio.js';
import { FULL, type Measurement, type Progress, type Run, type Runs, type Scale } from './measurement.js';
import { alternating } from './pairs.js';
import { GROUP } from './volume.js';

/** Of all together, a second. */
const WRITES_PER_SECOND = 8_000;
const DEPTH = 32;
const VOLUME_BYTES = 16 << 20;
const RING_BYTES = '64MiB';
const READY_SECONDS_MAX = 300;

/** An agent and where its volumes are reached. */
interface Host {
  daemon: Daemon;
  group: string;
}

export const growthMeasurements: Measurement[] = [
  ...FULL.growth.volumes.map((count, i) => growth(`growth/volumes-${count}`, 'volumes', i)),
  ...FULL.growth.agents.map((count, i) => growth(`growth/agents-${count}`, 'agents', i)),
];

function growth(name: string, what: 'volumes' | 'agents', index: number): Measurement {
  return {
    name,
    unit: 'CPU µs per write',
    peerName: what === 'volumes' ? 'one volume' : 'one agent',
    bar: { must: 1.3, aim: 1.1, side: 'most' },
    conditions: {
      load: `4 KiB random writes, ${WRITES_PER_SECOND} a second in all, depth ${DEPTH} in all, or 1 each`,
      counts: 'CPU time of agents and receiver',
      transport: 'TLS',
    },
    run(scale, progress): Promise<Runs> {
      const count = scale.growth[what][index] ?? scale.growth[what][0] ?? 1;
      const sites = (number: number): Promise<Run> =>
        what === 'volumes' ? cost(number, 1, scale, progress) : cost(1, number, scale, progress);
      return alternating(
        scale,
        progress,
        () => sites(count),
        () => sites(1),
      );
    },
  };
}

/** µs of CPU time per write. */
async function cost(volumes: number, agents: number, scale: Scale, progress: Progress): Promise<Run> {
  const scratch = await Scratch.create('bench-growth');
  try {
    const names = Array.from({ length: volumes }, (_, i) => `v${i}`);
    const filesOf = async (host: string): Promise<{ name: string; backing: string; attach: 'socket' }[]> => {
      await mkdir(scratch.path(host), { recursive: true });
      return Promise.all(
        names.map(async (name) => {
          const backing = scratch.path(host, `${name}.img`);
          await writeFile(backing, '');
          await truncate(backing, VOLUME_BYTES);
          return { name, backing, attach: 'socket' as const };
        }),
      );
    };
    const site = await Site.create(scratch, {
      ...{ group: GROUP, ringBytes: RING_BYTES, segmentBytes: '16MiB' },
      volumes: await filesOf('h0'),
    });
    await site.start(60);
    const hosts: Host[] = [{ daemon: site.agent, group: GROUP }];
    for (let i = 1; i < agents; i += 1)
      hosts.push(await further(scratch, site, `h${i}`, await filesOf(`h${i}`)));
    const reports = await Promise.all(hosts.map(settled));
    const uris = reports.flatMap((report) => report.volumes.map((_, i) => nbdUri(report, i)));
    const share = {
      rate: WRITES_PER_SECOND / uris.length,
      depth: Math.max(1, Math.floor(DEPTH / uris.length)),
    };
    const load = { rw: 'randwrite', blockBytes: 4096, seconds: scale.seconds, ...share } as const;
    const pids = [site.receiver.pid, ...hosts.map(({ daemon }) => daemon.pid)];
    const run = (seconds: number): Promise<unknown> =>
      Promise.all(uris.map((uri) => fio({ uri }, { ...load, seconds })));
    await run(scale.warmSeconds);
    const [writesBefore, cpuBefore] = [await writesOf(hosts), await cpuSeconds(pids)];
    await run(scale.seconds);
    const after = await Promise.all(hosts.map(settled));
    const [writesAfter, cpuAfter] = [await writesOf(hosts), await cpuSeconds(pids)];
    const writes = writesAfter - writesBefore;
    progress(
      `${uris.length} volumes of ${agents} agents: ${(writes / scale.seconds).toFixed(0)} writes a second`,
    );
    const moved = after.filter(({ generation }, i) => generation !== reports[i]?.generation);
    const broken = moved.length > 0 ? [`${moved.length} agents began a generation`] : [];
    return { value: ((cpuAfter - cpuBefore) / writes) * 1e6, broken };
  } finally {
    await scratch.clean();
  }
}

/** One more agent of the site's receiver. */
async function further(
  scratch: Scratch,
  site: Site,
  name: string,
  volumes: { name: string; backing: string }[],
): Promise<Host> {
  const [run, state] = [scratch.path(name, 'run'), scratch.path(name, 'state')];
  await mkdir(run, { mode: 0o700 });
  const config = scratch.path(name, 'agent.toml');
  const lines = [
    ...[`receiver = "${site.listen}"`, `state_dir = "${state}"`, `run_dir = "${run}"`],
    ...['[[group]]', `name = "${name}"`, `ring_bytes = "${RING_BYTES}"`],
  ];
  for (const volume of volumes)
    lines.push(
      '[[group.volume]]',
      `name = "${volume.name}"`,
      `backing = "${volume.backing}"`,
      'attach = "socket"',
    );
  await writeFile(config, `${lines.join('\n')}\n`);
  await joinOffline(site.store, state, site.listen, name);
  const control = `${run}/agent.sock`;
  const daemon = new Daemon({ name: 'agent', config, control, log: scratch.path(`${name}.log`) });
  await daemon.start(60);
  scratch.defer(`agent ${name}`, () => daemon.end());
  return { daemon, group: name };
}

async function reportOf({ daemon, group }: Host): Promise<GroupReport> {
  const { stdout } = await afterimage(['status', '--control', daemon.control, '--json']);
  return groupOf(JSON.parse(stdout), 'agent', group);
}

async function settled(host: Host): Promise<GroupReport> {
  for (const deadline = performance.now() + READY_SECONDS_MAX * 1000; ; await sleep(200)) {
    const report = await reportOf(host);
    if (report.state === 'protected' && report.durableLsn === report.capturedLsn) return report;
    if (performance.now() > deadline) throw new Error(`${host.group} is ${report.state}: ${report.detail}`);
  }
}

async function writesOf(hosts: readonly Host[]): Promise<number> {
  const reports = await Promise.all(hosts.map(reportOf));
  return reports.flatMap(({ volumes }) => volumes).reduce((sum, { writes }) => sum + writes, 0);
}
