/** Two who claim to be the same: a cloned agent, a receiver that is an older copy. Neither harms the other's history. */
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { command } from './command.js';
import { Daemon } from './daemon.js';
import { refused } from './refusal.js';
import { afterimage, groupOf, nbdUri, type GroupReport, type Site } from './site.js';
import { socketSite, writePattern } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'rivals';
const BYTES = 32 << 20;

interface Past {
  site: Site;
  uri: string;
  /** A point, and what the volume held at it. */
  point: string;
  content: Buffer;
}

async function siteWithPast(t: Test, name: string): Promise<Past> {
  const { site, backing, uri } = await socketSite(t, name, BYTES, { group: GROUP });
  await writePattern(uri, '0x11');
  const { durableLsn } = await site.settled();
  return { site, uri, point: `lsn:${durableLsn}`, content: await readFile(backing) };
}

t.test(
  'a second agent is kept out: by the lock, by the backing, and by its epoch at the receiver',
  async (t) => {
    const { site, uri, point, content } = await siteWithPast(t, 'fenced');
    const { scratch } = site;
    const config = scratch.path('agent.toml');
    await refused(t, 'STATE_BUSY', scratch.path('state'), ['agent', 'run', '--config', config]);

    // A copy of the state directory, as a restored backup or a cloned machine would have it.
    await cp(scratch.path('state'), scratch.path('clone'), { recursive: true });
    const clone = (await readFile(config, 'utf8'))
      .replaceAll(scratch.path('state'), scratch.path('clone'))
      .replaceAll(scratch.path('run'), scratch.path('clone-run'));
    const cloneConfig = scratch.path('clone.toml');
    await writeFile(cloneConfig, clone);
    await refused(t, 'BACKING_BUSY', scratch.path('volume.img'), ['agent', 'run', '--config', cloneConfig]);

    await cp(scratch.path('volume.img'), scratch.path('clone.img'));
    await writeFile(cloneConfig, clone.replaceAll(scratch.path('volume.img'), scratch.path('clone.img')));
    await rm(scratch.path('clone'), { recursive: true });
    await cp(scratch.path('state'), scratch.path('clone'), { recursive: true });
    const control = scratch.path('clone-run', 'agent.sock');
    const second = new Daemon({
      name: 'agent',
      config: cloneConfig,
      control,
      log: scratch.path('clone.log'),
    });
    scratch.defer('second agent', () => second.end());
    await second.start();
    const groupAt = async (socket: string): Promise<GroupReport> => {
      const { stdout } = await afterimage(['status', '--control', socket, '--json']);
      return groupOf(JSON.parse(stdout), 'agent', GROUP);
    };
    await site.waitFor('fenced', 30, ({ detail }) => detail.includes('FENCED'));
    t.match((await groupAt(site.agentControl)).state, /^(tracking|disconnected)$/);

    // Both productions go on; what the one that lost writes is in nobody's history.
    await writePattern(uri, '0x33', 4);
    await command('qemu-io', ['-f', 'raw', '-c', 'read -P 0x33 4M 4M', uri]);
    await writePattern(nbdUri(await groupAt(control)), '0x55', 8);
    const deadline = Date.now() + 60_000;
    let winner = await groupAt(control);
    while (winner.state !== 'protected' || winner.durableLsn !== winner.capturedLsn) {
      if (Date.now() > deadline) throw new Error(`not protected: ${JSON.stringify(winner)}`);
      await sleep(100);
      winner = await groupAt(control);
    }
    const latest = await site.recovered('disk', 'latest');
    t.ok(
      latest.equals(await readFile(scratch.path('clone.img'))),
      'the latest point is that of the newer epoch',
    );
    t.notOk(
      latest.equals(await readFile(scratch.path('volume.img'))),
      'which is not the production of the other',
    );
    t.ok((await site.recovered('disk', point)).equals(content), 'the point before it is what it was');
    t.match((await site.agentGroup()).detail, /FENCED/, 'and the other stays out');
  },
);

t.test('a receiver restored from an older copy is recognised, and compared in full', async (t) => {
  const { site, uri, point, content } = await siteWithPast(t, 'regressed');
  const { scratch } = site;
  t.equal(await site.receiver.stop(), 0);
  await cp(site.store, scratch.path('older'), { recursive: true });
  await site.receiver.start();
  // Where the older copy has other data, and where it has none.
  await writePattern(uri, '0x44', 2);
  await writePattern(uri, '0x66', 24);
  const before = await site.settled();
  t.equal(await site.receiver.stop(), 0);
  await rm(site.store, { recursive: true });
  await cp(scratch.path('older'), site.store, { recursive: true });
  await site.receiver.start();
  const after = await site.waitFor(
    'in a new generation',
    60,
    (group) => group.generation !== before.generation,
  );
  t.ok(BigInt(after.generation) > BigInt(before.generation));
  await site.settled();
  const production = await readFile(scratch.path('volume.img'));
  t.notOk(production.equals(content), 'production has moved on since the copy');
  t.ok(
    (await site.recovered('disk', 'latest')).equals(production),
    'the latest point is what production holds',
  );
  t.ok((await site.recovered('disk', point)).equals(content), 'a point of the older copy is what it was');
});

t.test('another group under the same name is refused, and disturbs nobody', async (t) => {
  const { site, uri, point, content } = await siteWithPast(t, 'namesake');
  const { scratch } = site;
  const volume = scratch.path('other.img');
  await command('truncate', ['-s', String(BYTES), volume]);
  const config = scratch.path('other.toml');
  const other = (await readFile(scratch.path('agent.toml'), 'utf8'))
    .replaceAll(scratch.path('state'), scratch.path('other'))
    .replaceAll(scratch.path('run'), scratch.path('other-run'))
    .replaceAll(scratch.path('volume.img'), volume);
  await writeFile(config, other);
  // On the same host; another one is not given the group at all (test/attack/writers.test.ts).
  await mkdir(scratch.path('other'), { mode: 0o700 });
  await cp(scratch.path('state', 'identity.json'), scratch.path('other', 'identity.json'));
  const control = scratch.path('other-run', 'agent.sock');
  const second = new Daemon({ name: 'agent', config, control, log: scratch.path('other.log') });
  scratch.defer('second agent', () => second.end());
  await second.start();
  const status = async (): Promise<GroupReport> => {
    const { stdout } = await afterimage(['status', '--control', control, '--json']);
    return groupOf(JSON.parse(stdout), 'agent', GROUP);
  };
  for (const deadline = Date.now() + 60_000; !(await status()).detail.includes('GROUP_MISMATCH');) {
    if (Date.now() > deadline) throw new Error(`not refused: ${JSON.stringify(await status())}`);
    await sleep(100);
  }
  await writePattern(nbdUri(await status()), '0x55');
  t.match((await readFile(volume)).subarray(0, 4), Buffer.alloc(4, 0x55), 'its production goes on');

  await writePattern(uri, '0x66', 8);
  await site.settled();
  const latest = await site.recovered('disk', 'latest');
  t.ok(latest.equals(await readFile(scratch.path('volume.img'))), 'the one that was there first goes on');
  t.ok((await site.recovered('disk', point)).equals(content), 'and its history is what it was');
});
