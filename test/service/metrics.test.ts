/** What Prometheus is told, and whoever asks whether a daemon is well. */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import t from 'tap';
import { countError, errorCounts } from '../../service/error_counts.js';
import { Metrics } from '../../service/metrics.js';
import { MetricsServer, type Check } from '../../service/metrics_server.js';
import { freePort } from '../scenario/site.js';

const silent = pino({ level: 'silent' });

t.test('all values of one scrape are of one look, and what is gone is told no more', async (t) => {
  let looks = 0;
  let names = ['a', 'b'];
  const metrics = new Metrics(() => Promise.resolve({ look: (looks += 1), names }));
  metrics.gauge('x_bytes', 'x', ['name'], ({ look, names }) =>
    names.map((name) => ({ labels: { name }, value: look })),
  );
  metrics.counter('y_total', 'y', [], ({ look }) => [{ labels: {}, value: look * 10 }]);
  const first = await metrics.text();
  t.match(first, /^x_bytes\{name="a"\} 1$/m);
  t.match(first, /^x_bytes\{name="b"\} 1$/m);
  t.match(first, /^y_total 10$/m);
  names = ['b'];
  const second = await metrics.text();
  t.match(second, /^x_bytes\{name="b"\} 2$/m);
  t.notMatch(second, /name="a"/);
  t.match(second, /^y_total 20$/m, 'not what was told before and this');
});

t.test('a histogram that was counted elsewhere', async (t) => {
  const metrics = new Metrics(() => Promise.resolve({}));
  metrics.histogram('z_seconds', 'z', [0.1, 1], () => [{ labels: { op: 'r' }, counts: [3, 0, 2], sum: 4.5 }]);
  const lines = (await metrics.text())
    .split('\n')
    .filter((line) => line.startsWith('z_') || line.includes(' z_'));
  t.same(lines, [
    '# HELP z_seconds z',
    '# TYPE z_seconds histogram',
    'z_seconds_bucket{op="r",le="0.1"} 3',
    'z_seconds_bucket{op="r",le="1"} 3',
    'z_seconds_bucket{op="r",le="+Inf"} 5',
    'z_seconds_sum{op="r"} 4.5',
    'z_seconds_count{op="r"} 5',
  ]);
});

t.test('codes are counted, and nothing else: a label must have a bound', (t) => {
  const before = errorCounts().get('JOURNAL_FULL') ?? 0;
  const fields = [
    { code: 'JOURNAL_FULL' },
    { err: { code: 'JOURNAL_FULL' } },
    { code: 'made up' },
    'JOURNAL_FULL',
    null,
    { err: null },
  ];
  for (const one of fields) countError(one);
  t.equal(errorCounts().get('JOURNAL_FULL'), before + 2);
  t.notOk([...errorCounts().keys()].includes('made up' as 'USAGE'));
  t.end();
});

t.test('/livez, /readyz, and what is none of them', async (t) => {
  let checks: Check[] = [
    { name: 'group a', fault: null },
    { name: 'group b', fault: null },
  ];
  let text = (): Promise<string> => Promise.resolve('x 1\n');
  const health = { live: () => [], ready: () => checks };
  const server = new MetricsServer({ text: () => text() }, health, silent);
  const port = await freePort();
  await server.start({ host: '127.0.0.1', port });
  t.teardown(() => server.close());
  const get = async (path: string, method = 'GET'): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return [response.status, await response.text()];
  };
  t.same(await get('/livez'), [200, 'ok\n']);
  t.same(await get('/readyz'), [200, 'ok\n']);
  t.same(await get('/readyz?verbose'), [200, '[+]group a ok\n[+]group b ok\nok\n']);
  checks = [
    { name: 'group a', fault: null },
    { name: 'group b', fault: 'BACKING_BUSY' },
  ];
  t.same(await get('/readyz'), [503, '[-]group b failed: BACKING_BUSY\nfailed\n']);
  t.same(await get('/metrics'), [200, 'x 1\n']);
  t.equal((await get('/metrics', 'POST'))[0], 405);
  t.equal((await get('/../../etc/passwd'))[0], 404);
  t.equal((await get('//'))[0], 404);
  text = () => Promise.reject(new Error('a secret'));
  t.same(await get('/metrics'), [500, 'INTERNAL\n']);
});

t.test('an address that is taken is waited for, and keeps nobody from ending', async () => {
  const port = await freePort();
  const other = http.createServer();
  await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
  const server = new MetricsServer(
    { text: () => Promise.resolve('') },
    { live: () => [], ready: () => [] },
    silent,
  );
  const started = server.start({ host: '127.0.0.1', port });
  await sleep(50);
  await server.close();
  await started;
  other.close();
});
