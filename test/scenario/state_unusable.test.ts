/** The state directory cannot be read or written, or does not answer, where a killed agent is followed by the next. */
import { rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { FaultRule } from '../fault/fault_directory.js';
import { GROUP, production } from './production.js';
import { afterimage } from './site.js';

t.setTimeout(600_000);

t.test('a state that is damaged, or not there', async (t) => {
  const { scratch, site, before, works, kill, sameAgain } = await production(t, 'state');
  const file = scratch.path('state', `${GROUP}.json`);
  for (const spoil of [() => writeFile(file, '{"version":1,'), () => Promise.resolve()]) {
    await rename(file, `${file}.away`);
    await spoil();
    await kill();
    t.ok(await works(), 'production goes on');
    await site.agent.answers();
    await site.waitFor('told of', 30, ({ detail, state, volumes }) => {
      const [disk] = volumes;
      const isTold = detail.includes('production is served, and not protected: STATE_INVALID');
      return isTold && state === 'failed' && disk?.device === before.volumes[0]?.device;
    });
    const { devices } = JSON.parse(
      (await afterimage(['agent', 'devices', '--control', site.agentControl, '--json'])).stdout,
    ) as { devices: { device: string }[] };
    t.same(
      devices.map(({ device }) => device),
      before.volumes.map(({ device }) => device),
      'nor is the package removed under it',
    );
    await rename(`${file}.away`, file);
    t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
  }
});

// Torture found the first: a start that could not store its epoch never ended, so that the group was neither tried again nor
// stopped.
t.test('a state directory without space, or that cannot be read', async (t) => {
  const { site, before, works, kill, sameAgain, faults } = await production(t, 'state-full', {
    hasFaultyState: true,
  });
  const wrongs: [string, FaultRule[]][] = [
    [
      'DISK_FULL',
      (['write', 'create'] as const).map((op) => ({ op, path: '*', do: 'fail', errno: 'ENOSPC' })),
    ],
    ['IO_ERROR', [{ op: 'read', path: '*.json', do: 'fail', errno: 'EIO' }]],
  ];
  for (const [code, rules] of wrongs) {
    for (const rule of rules) await faults?.add(rule);
    await kill();
    t.ok(await works(), 'production goes on');
    await site.agent.answers();
    await site.waitFor('told of', 30, ({ detail }) => detail.includes(code));
    await faults?.clear();
    t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
  }
});

// Symptom: the agent died while the disk of its state directory hung, and production waited until the disk answered.
t.test('a state directory whose disk does not answer', async (t) => {
  const { scratch, site, before, works, kill, sameAgain, told, faults } = await production(t, 'state-hangs', {
    hasFaultyState: true,
  });
  scratch.defer('frozen disk', () => faults?.thaw());
  faults?.freeze();
  await kill();
  t.ok(await works(), 'production goes on');
  faults?.thaw();
  t.equal((await sameAgain()).generation, before.generation, 'the stream goes on');
  t.ok((await told(/dirty log of .* does not answer/g)) > 0, 'and what did not answer is told');
  faults?.freeze();
  site.agent.signal('SIGTERM');
  await site.agent.tells(/"stopping"/);
  site.agent.signal('SIGTERM');
  t.equal(await site.agent.ends(60), 0, 'nor does it keep an agent from ending that is told twice');
  faults?.thaw();
});

// Torture found it: an NBD export waited for the state directory, and its clients were refused meanwhile.
t.test('a state that cannot be read, and clients of a socket', async (t) => {
  const { scratch, site, before, works, sameAgain } = await production(t, 'state-nbd', { attach: 'socket' });
  const file = scratch.path('state', `${GROUP}.json`);
  await rename(file, `${file}.away`);
  await writeFile(file, '{"version":1,');
  // Nobody is there yet when they connect: they wait, and are not turned away.
  site.agent.signal('SIGSTOP');
  process.kill(site.agent.supervisedPid() ?? 0, 'SIGKILL');
  const working = works();
  await sleep(500);
  site.agent.signal('SIGCONT');
  t.ok(await working, 'production goes on');
  await site.agent.answers();
  await site.waitFor('told of', 30, ({ detail }) => detail.includes('STATE_INVALID'));
  await rename(`${file}.away`, file);
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});
