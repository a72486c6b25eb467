/** A real Prometheus scrapes both daemons, takes the rules as they are, and tells of a link that is cut, and of its end. */
import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { TcpProxy } from '../torture/tcp_proxy.js';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { freePort, nbdUri, Site } from './site.js';
import { writePattern } from './socket_site.js';
import { until } from './until.js';

const RULES = path.resolve('packaging/prometheus/afterimage.rules.yml');
const DASHBOARD = path.resolve('packaging/grafana/afterimage.json');

interface Series {
  metric: Record<string, string>;
  value: [number, string];
}

t.test('promtool takes the rules, and what both daemons say; an alert fires and clears', async (t) => {
  const scratch = await Scratch.create('prometheus');
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', '32M', backing]);
  const [agentPort, receiverPort, port] = [await freePort(), await freePort(), await freePort()];
  let proxy: TcpProxy | null = null;
  const site = await Site.create(scratch, {
    group: 'shop',
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
    receiver: `metrics = "127.0.0.1:${receiverPort}"`,
    agentLines: [`metrics = "127.0.0.1:${agentPort}"`],
    via: async (listen) => {
      proxy = await TcpProxy.start(listen);
      return proxy.address;
    },
  });
  scratch.defer('proxy', () => proxy?.stop());
  await site.start();
  await writePattern(nbdUri(await site.settled()), '0x11');

  await command('promtool', ['check', 'rules', RULES]);
  for (const [daemon, at] of [
    ['agent', agentPort],
    ['receiver', receiverPort],
  ] as const) {
    const text = await (await fetch(`http://127.0.0.1:${at}/metrics`)).text();
    const { stderr, stdout } = await command('promtool', ['check', 'metrics'], { input: text });
    t.equal(`${stdout}${stderr}`, '', `${daemon}: promtool has nothing to say`);
    t.match(text, new RegExp(`^afterimage_${daemon}_info\\{.*\\} 1$`, 'm'));
    t.equal((await fetch(`http://127.0.0.1:${at}/livez`)).status, 200);
    const ready = await fetch(`http://127.0.0.1:${at}/readyz?verbose`);
    t.match([ready.status, await ready.text()], [200, /^\[\+\](group shop|journal shop of .*) ok$/m]);
  }

  // As they are, but that nobody waits for minutes.
  await writeFile(
    scratch.path('rules.yml'),
    (await readFile(RULES, 'utf8')).replaceAll(/for: \w+/g, 'for: 1s'),
  );
  await writeFile(
    scratch.path('prometheus.yml'),
    `global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
scrape_configs:
  - job_name: afterimage
    static_configs: [{ targets: ["127.0.0.1:${agentPort}", "127.0.0.1:${receiverPort}"] }]
`,
  );
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${scratch.path('prometheus.yml')}`,
      `--storage.tsdb.path=${scratch.path('tsdb')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => prometheus.once('exit', resolve));
  scratch.defer('prometheus', async () => {
    prometheus.kill();
    await ended;
  });
  const query = async (expression: string): Promise<Series[]> => {
    const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const response = await fetch(url).catch(() => null);
    if (response?.status !== 200) return [];
    return ((await response.json()) as { data: { result: Series[] } }).data.result;
  };
  const firing = async (): Promise<string[]> =>
    (await query('ALERTS{alertstate="firing"}')).map(({ metric }) => metric['alertname'] ?? '').sort();

  await until('scraped', async () => (await query('up == 1')).length === 2);
  await sleep(5000);
  t.same(await firing(), [], 'all is well');
  if (proxy === null) throw new Error('the agent has no way to the receiver');
  const link = proxy as TcpProxy;
  link.isStalled = true;
  link.cut();
  await until('told of', async () => {
    const alerts = await firing();
    return alerts.includes('AfterimageMemberDisconnected') && alerts.includes('AfterimageNotProtected');
  });
  link.heal();
  await until('over', async () => (await firing()).length === 0);

  const { panels } = JSON.parse(await readFile(DASHBOARD, 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[];
  };
  for (const { title, targets = [] } of panels) {
    for (const { expr } of targets) {
      const asked = expr.replaceAll('$__rate_interval', '1m').replaceAll('$group', '.*');
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(asked)}`;
      t.equal((await fetch(url)).status, 200, `${title}: ${asked}`);
    }
  }
});
