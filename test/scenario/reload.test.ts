/** The configurations are changed and read again while production writes: SIGHUP, as `systemctl reload` sends it. */
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { TcpProxy } from '../torture/tcp_proxy.js';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { afterimage, groupOf, nbdUri, Site, type GroupReport } from './site.js';
import { socketSite, writePattern } from './socket_site.js';
import { until } from './until.js';

async function reloaded(
  site: Site,
  daemon: 'agent' | 'receiver',
  config: string,
  says: RegExp,
): Promise<void> {
  const file = site.scratch.path(`${daemon}.toml`);
  await writeFile(file, config);
  const log = site.scratch.path(`${daemon}.log`);
  const before = (await readFile(log, 'utf8')).length;
  site[daemon].signal('SIGHUP');
  await until(`told ${says} by the ${daemon}`, async () =>
    says.test((await readFile(log, 'utf8')).slice(before)),
  );
}

t.test('a group comes and goes while another one is written to', async (t) => {
  const { site, uri, ready } = await socketSite(t, 'reload', 16 << 20, { group: 'shop' });
  const first = await readFile(site.scratch.path('agent.toml'), 'utf8');
  const backing = site.scratch.path('other.img');
  await command('truncate', ['-s', '8M', backing]);
  const both = `${first}[[group]]\nname = "mail"\n[[group.volume]]\nname = "spool"\nbacking = "${backing}"\nattach = "socket"\n`;
  let isOver = false;
  let writes = 0;
  const writing = (async () => {
    for (; !isOver; writes += 1) await writePattern(uri, `${1 + (writes % 200)}`, 4 * (writes % 4));
  })();
  const status = async (): Promise<unknown> =>
    JSON.parse((await afterimage(['status', '--control', site.agentControl, '--json'])).stdout);
  const mail = async (): Promise<GroupReport | null> => {
    try {
      return groupOf(await status(), 'agent', 'mail');
    } catch {
      return null;
    }
  };
  try {
    await reloaded(site, 'agent', `${both}typo = 1\n`, /goes on as it was: .*typo/);
    t.equal(await mail(), null, 'a mistake changes nothing');
    await reloaded(site, 'agent', both, /another group/);
    await until('protected', async () => (await mail())?.state === 'protected');
    const there = await mail();
    if (there === null) throw new Error('it is there');
    await writePattern(nbdUri(there), '0x77');
    await reloaded(site, 'agent', first, /the group no more/);
    await until('gone', async () => (await mail()) === null);
    await reloaded(site, 'agent', both, /another group/);
    await until('protected again', async () => (await mail())?.state === 'protected');
  } finally {
    isOver = true;
    await writing;
  }
  t.ok(writes > 3, `${writes} times written meanwhile`);
  const after = await site.settled();
  t.equal(after.generation, ready.generation, 'the stream of the other group went on');
  const latest = JSON.parse(
    (await afterimage(['timeline', 'mail', '--control', site.receiverControl, '--json'])).stdout,
  ) as {
    spans: { grade: string }[];
  };
  t.same(
    [...new Set(latest.spans.map(({ grade }) => grade))],
    ['ordered'],
    'its history went on where it had ended',
  );
});

/** Of which the first is protected from the start. */
async function twoBackings(scratch: Scratch) {
  const [first, second] = [scratch.path('first.img'), scratch.path('second.img')];
  for (const backing of [first, second]) await command('truncate', ['-s', '16M', backing]);
  return { first, second, volumes: [{ name: 'first', backing: first, attach: 'loop' as const }] };
}

/** The second one too, from the next reading of the configuration. */
async function addSecond(scratch: Scratch, second: string): Promise<void> {
  const config = scratch.path('agent.toml');
  const volume = `[[group.volume]]\nname = "second"\nbacking = "${second}"\nattach = "loop"\n`;
  await writeFile(config, `${await readFile(config, 'utf8')}${volume}`);
}

t.test('a volume that came while the agent ran outlives that agent', async (t) => {
  const scratch = await Scratch.create('reload-volume');
  t.teardown(() => scratch.clean());
  const { first, second, volumes } = await twoBackings(scratch);
  const site = await Site.create(scratch, { group: 'shop', volumes, supervised: true });
  await site.start();
  await site.settled();
  await addSecond(scratch, second);
  const device = async (name: string): Promise<string> =>
    (await site.agentGroup()).volumes.find((volume) => volume.name === name)?.device ?? '';
  const write = async (name: string, megabyte: number): Promise<unknown> =>
    command('dd', [
      'if=/dev/urandom',
      `of=${await device(name)}`,
      'bs=1M',
      'count=1',
      `seek=${megabyte}`,
      'oflag=direct',
    ]);
  const pid = site.agent.supervisedPid() ?? 0;
  process.kill(pid, 'SIGHUP');
  await until('served', async () => (await device('second')) !== '');
  await site.settled();
  await write('second', 3);
  const [firstDevice, secondDevice] = [await device('first'), await device('second')];
  const before = await site.settled();
  process.kill(pid, 'SIGKILL');
  await command('dd', ['if=/dev/urandom', `of=${firstDevice}`, 'bs=1M', 'count=1', 'seek=5', 'oflag=direct']);
  await command('dd', [
    'if=/dev/urandom',
    `of=${secondDevice}`,
    'bs=1M',
    'count=1',
    'seek=7',
    'oflag=direct',
  ]);
  await until('a successor', () => Promise.resolve(![null, pid].includes(site.agent.supervisedPid())));
  await until('served', async () => (await device('second').catch(() => '')) === secondDevice);
  const after = await site.settled();
  t.equal(after.generation, before.generation, 'the stream goes on');
  for (const [name, backing] of [
    ['first', first],
    ['second', second],
  ] as const)
    t.ok(
      (await site.recovered(name, 'latest')).equals(await readFile(backing)),
      `${name} is there as it is here`,
    );
});

t.test(
  'what was captured before a volume came is sent, though the agent dies before it can be',
  async (t) => {
    const scratch = await Scratch.create('reload-away');
    t.teardown(() => scratch.clean());
    const { first, second, volumes } = await twoBackings(scratch);
    let way: TcpProxy | null = null;
    const via = async (listen: string): Promise<string> => {
      way = await TcpProxy.start(listen);
      return way.address;
    };
    const site = await Site.create(scratch, { group: 'shop', volumes, supervised: true, via });
    const proxy = way as TcpProxy | null;
    if (proxy === null) throw new Error('there is a way');
    scratch.defer('proxy', () => proxy.stop());
    await site.start();
    const before = await site.settled();
    proxy.isStalled = true;
    proxy.cut();
    const write = (device: string, megabyte: number): Promise<unknown> =>
      command('dd', [
        'if=/dev/urandom',
        `of=${device}`,
        'bs=1M',
        'count=1',
        `seek=${megabyte}`,
        'oflag=direct',
      ]);
    const device = async (name: string): Promise<string> =>
      (await site.agentGroup()).volumes.find((volume) => volume.name === name)?.device ?? '';
    await write(await device('first'), 3);
    const { capturedLsn } = await site.agentGroup();
    t.ok(BigInt(capturedLsn) > BigInt(before.durableLsn), `${capturedLsn} were captured`);
    await addSecond(scratch, second);
    const pid = site.agent.supervisedPid() ?? 0;
    process.kill(pid, 'SIGHUP');
    await until('served', async () => (await device('second')) !== '');
    await write(await device('second'), 5);
    process.kill(pid, 'SIGKILL');
    await until('a successor', () => Promise.resolve(![null, pid].includes(site.agent.supervisedPid())));
    await until('served', async () => (await device('second').catch(() => '')) !== '');
    proxy.heal();
    await site.settled();
    const { spans } = await site.ask<{ spans: { grade: string; lastLsn: string }[] }>('timeline', 'shop');
    t.ok(
      spans.some(({ grade, lastLsn }) => grade === 'ordered' && lastLsn === capturedLsn),
      `history goes on to ${capturedLsn}: ${spans.map(({ grade, lastLsn }) => `${grade} ${lastLsn}`).join(', ')}`,
    );
    for (const [name, backing] of [
      ['first', first],
      ['second', second],
    ] as const)
      t.ok(
        (await site.recovered(name, 'latest')).equals(await readFile(backing)),
        `${name} is there as it is here`,
      );
  },
);

t.test('a volume moves from one group to another, in two steps', async (t) => {
  const scratch = await Scratch.create('reload-move');
  t.teardown(() => scratch.clean());
  const { first, second } = await twoBackings(scratch);
  const third = scratch.path('third.img');
  await command('cp', [second, third]);
  const socket = (name: string, backing: string): string =>
    `[[group.volume]]\nname = "${name}"\nbacking = "${backing}"\nattach = "socket"\n`;
  const volumes = [{ name: 'first', backing: first, attach: 'socket' as const }];
  const site = await Site.create(scratch, { group: 'shop', volumes });
  const shop = await readFile(scratch.path('agent.toml'), 'utf8');
  const mail = '[[group]]\nname = "mail"\n';
  await writeFile(
    scratch.path('agent.toml'),
    `${shop}${mail}${socket('second', second)}${socket('third', third)}`,
  );
  await site.start();
  await site.settled();
  const groups = async (): Promise<GroupReport[]> => {
    const { stdout } = await afterimage(['status', '--control', site.agentControl, '--json']);
    return ['shop', 'mail'].map((name) => groupOf(JSON.parse(stdout), 'agent', name));
  };
  await until('protected', async () => (await groups()).every(({ state }) => state === 'protected'));
  const moved = `${shop}${socket('second', second)}${mail}${socket('third', third)}`;
  await reloaded(site, 'agent', moved, /goes on with the volumes that it had: .*second/);
  t.match(
    (await groups())[0]?.detail,
    /goes on with the volumes that it had: .*second/,
    'it is not there yet',
  );
  await until('left', async () => (await groups())[1]?.volumes.length === 1);
  await reloaded(site, 'agent', moved, /read again/);
  await until('moved', async () => {
    const names = (await groups()).map(({ volumes }) => volumes.map(({ name }) => name));
    return JSON.stringify(names) === '[["first","second"],["third"]]';
  });
  await until('protected again', async () =>
    (await groups()).every(({ state, detail }) => state === 'protected' && detail === ''),
  );
  const there = (await groups())[0];
  if (there !== undefined) await writePattern(nbdUri(there, 1), '0x55');
  await site.settled();
  t.ok((await site.recovered('second', 'latest')).equals(await readFile(second)));
});

t.test('how long history is held', async (t) => {
  const { site } = await socketSite(t, 'retention-reload', 8 << 20, { group: 'shop' });
  const config = await readFile(site.scratch.path('receiver.toml'), 'utf8');
  const held = async (): Promise<string> =>
    ((await site.receiverGroup()) as unknown as { retentionWindowNs: string }).retentionWindowNs;
  const day = 86_400_000_000_000n;
  t.equal(await held(), String(3n * day));
  await reloaded(
    site,
    'receiver',
    `${config}[retention]\nwindow = "1d"\n[[group]]\nname = "shop"\nretention = { window = "10d" }\n`,
    /read again/,
  );
  t.equal(await held(), String(10n * day));
  await reloaded(site, 'receiver', `${config}[retention]\nwindow = "x"\n`, /goes on as it was/);
  t.equal(await held(), String(10n * day));
  await reloaded(
    site,
    'receiver',
    config.replace(/^listen = .*$/m, 'listen = "127.0.0.1:1"'),
    /count after a restart/,
  );
  t.equal(await held(), String(3n * day));
  await site.settled();
});
