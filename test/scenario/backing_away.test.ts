/** The backing is away, another one, or does not answer, where a killed agent is followed by the next. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { FaultDirectory } from '../fault/fault_directory.js';
import { command } from './command.js';
import { BYTES, GROUP, production } from './production.js';
import { Scratch } from './scratch.js';
import { Site } from './site.js';

t.setTimeout(600_000);

// Symptom: a disk that was missing when the agent came back kept all groups from their sessions and their control socket, and
// a stop from being heard, for as long as it was missing.
t.test('a backing that is away, and another group', async (t) => {
  const { site, before, works, other, worksToo, kill, sameAgain, takeAway, giveBack } = await production(
    t,
    'away',
    {
      others: ['calm'],
    },
  );
  await takeAway();
  await kill();
  const working = works();
  await site.agent.answers();
  t.ok(await worksToo('calm'), 'production of the other group goes on');
  await site.waitFor('told of', 30, ({ detail }) => detail.includes('BACKING_MISSING'));
  while ((await other('calm')).state !== 'protected') await sleep(100);
  await giveBack();
  t.ok(await working, 'and of this one when its backing is back');
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

// Symptom: a successor opened whatever was at the backing's path, and production went on with somebody else's bytes.
t.test('another file in the place of the backing', async (t) => {
  const { scratch, site, before, works, kill, sameAgain, takeAway, giveBack } = await production(
    t,
    'replaced',
  );
  const backing = scratch.path('volume.img');
  await takeAway();
  await writeFile(backing, Buffer.alloc(BYTES, 'theirs'));
  await kill();
  const working = works();
  await site.agent.tells(/BACKING_REPLACED/);
  t.ok((await readFile(backing)).equals(Buffer.alloc(BYTES, 'theirs')), 'nobody writes to it');
  await giveBack();
  t.ok(await working, 'production had waited, and goes on');
  t.equal((await sameAgain()).generation, before.generation);
});

t.test('a stop while a backing is away waits for it', async (t) => {
  const { site, works, kill, takeAway, giveBack } = await production(t, 'away-stop', { others: ['calm'] });
  await takeAway();
  await kill();
  const working = works();
  await site.agent.answers();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/so does the stop/);
  await giveBack();
  t.ok(await working, 'production that had waited goes on');
  t.equal(await site.agent.ends(), 0, 'and the stop too');
});

t.test('a second signal gives a volume up whose backing is away', async (t) => {
  const { site, kill, sameAgain, takeAway, giveBack } = await production(t, 'away-end', { others: ['calm'] });
  await takeAway();
  await kill();
  await site.agent.answers();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/so does the stop/);
  t.equal(await site.agent.stop(), 0);
  await giveBack();
  await site.agent.start();
  await sameAgain();
});

// Symptom: an agent whose backing does not answer could be told to stop as often as one liked; after SIGKILL the supervisor
// started another one, which hung likewise.
t.test('a stop of an agent whose backing does not answer', async (t) => {
  const scratch = await Scratch.create('serves-frozen');
  t.teardown(() => scratch.clean());
  const disk = await FaultDirectory.start(scratch, 'disk');
  scratch.defer('frozen disk', () => disk.thaw());
  const backing = `${disk.mount}/volume.img`;
  await command('truncate', ['-s', String(BYTES), backing]);
  const volumes = [{ name: 'disk', backing, attach: 'socket' as const }];
  const site = await Site.create(scratch, { group: GROUP, volumes, supervised: true });
  await site.start();
  const before = await site.settled();
  const isStopping = async (times: number): Promise<void> => {
    const log = (): Promise<string> => readFile(scratch.path('agent.log'), 'utf8');
    while (((await log()).match(/"stopping"/g)?.length ?? 0) < times) await sleep(20);
  };

  disk.freeze();
  process.kill(site.agent.supervisedPid() ?? 0, 'SIGKILL');
  await site.agent.tells(/production is served and not protected|the group cannot be started/);
  site.agent.signal('SIGTERM');
  await site.agent.tells(/a second signal gives it up/);
  await isStopping(1);
  t.ok(site.agent.running, 'it is waited for');
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'and given up');

  const started = site.agent.start().catch(() => undefined); // it never answers
  while (!existsSync(site.agentControl)) await sleep(20);
  site.agent.signal('SIGTERM');
  await isStopping(2);
  t.ok(site.agent.running, 'it is waited for at a cold start');
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'and given up');
  await started;

  disk.thaw();
  await site.agent.start();
  const after = await site.settled();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'it did not end in order');
});
