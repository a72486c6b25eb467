/**
 * Whatever is wrong with the program, its command line or its configuration where a killed agent is followed by the next,
 * production goes on (DESIGN, "It always serves"); and when it is put right, so is the protection.
 */
import { open, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { layouts } from '../../agent/layouts.js';
import { production } from './production.js';

t.setTimeout(600_000);

/** agent/short_lives.ts, SHORT_MAX: the next one is the last that is trusted with more than serving. */
const DEATHS = 31;

t.test('a typo in the configuration', async (t) => {
  const { scratch, site, before, works, kill, sameAgain } = await production(t, 'typo');
  const file = scratch.path('agent.toml');
  const right = await readFile(file, 'utf8');
  await writeFile(file, right.replace('[[group]]', '[[gruop]]'));
  await kill();
  t.ok(await works(), 'production goes on');
  // It is served before the configuration is looked at.
  await site.agent.tells(/CONFIG_INVALID/);
  await writeFile(file, right);
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('a command line with a mistake', async (t) => {
  const { site, before, works, kill, sameAgain, hook } = await production(t, 'line');
  await writeFile(hook, "if (process.argv.includes('agent')) process.argv.push('--nonsense');");
  await kill();
  t.ok(await works(), 'production goes on');
  await site.agent.tells(/--nonsense[^]*only serves/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('half of an upgrade', async (t) => {
  const { site, before, works, kill, sameAgain, hook } = await production(t, 'upgrade');
  const resolve =
    'export async function resolve(name, context, next) {' +
    "if (name === './command.js') throw new Error('command.js is missing'); return next(name, context); }";
  const loader = `data:text/javascript,${encodeURIComponent(resolve)}`;
  await writeFile(
    hook,
    `if (process.argv.includes('agent')) require('node:module').register(${JSON.stringify(loader)});`,
  );
  await kill();
  t.ok(await works(), 'production goes on');
  await site.agent.tells(/command.js is missing[^]*only serves/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

t.test('an upgrade that could not go on with what is in memory', async (t) => {
  const { site, before, works, sameAgain, hook, told } = await production(t, 'layouts');
  const pid = site.agent.supervisedPid();
  const refused = async (program: string, times: number): Promise<void> => {
    await writeFile(hook, `if (process.argv.includes('layouts')) { ${program} }`);
    site.agent.signal('SIGUSR2');
    while ((await told(/is refused, this one serves on/g)) < times) await sleep(50);
    t.equal(site.agent.supervisedPid(), pid, 'the agent is the same');
    t.ok(await works(), 'production goes on');
  };
  const newer = JSON.stringify({ layouts: { ...layouts(), slots: { oldest: 1000, written: 1000 } } });
  await refused(`console.log(${JSON.stringify(newer)}); process.exit(0);`, 1);
  await site.agent.tells(/cannot read slots of version/);
  await refused("throw new Error('half of it');", 2);
  await site.agent.tells(/half of it/);
  await writeFile(hook, '');
  site.agent.signal('SIGUSR2');
  while ([null, pid].includes(site.agent.supervisedPid())) await sleep(10);
  await site.agent.answers();
  t.equal((await sameAgain()).generation, before.generation, 'nothing was lost meanwhile');
});

// Symptom: the answer came when the agent had been told to stop, and it killed itself while its users were waited for.
t.test('a stop while the program that would follow is asked', async (t) => {
  const { site, hook } = await production(t, 'layouts-stop');
  await writeFile(hook, "if (process.argv.includes('layouts')) setTimeout(() => undefined, 600_000);");
  site.agent.signal('SIGUSR2');
  await site.agent.tells(/asking the program/);
  t.equal(await site.agent.stop(), 0);
  await site.agent.tells(/a stop is under way/);
});

// Symptom: an agent that only serves, or tries again what is wrong with its configuration, is never ready, and its supervisor
// kept a stop to itself until then: nothing ended them but SIGKILL, and I/O hung for ever.
t.test('a stop of an agent that cannot do more than serve', async (t) => {
  const { scratch, site, before, kill, sameAgain, hook } = await production(t, 'serves-stop');
  const file = scratch.path('agent.toml');
  const right = await readFile(file, 'utf8');
  const wrongs: [RegExp, () => Promise<void>][] = [
    [/only serves/, () => writeFile(hook, "if (process.argv.includes('agent')) process.argv.push('--no');")],
    [/CONFIG_INVALID/, () => writeFile(file, right.replace('[[group]]', '[[gruop]]'))],
  ];
  let group = before;
  for (const [told, spoil] of wrongs) {
    const user = await open(group.volumes[0]?.device ?? '', 'r');
    await spoil();
    await kill();
    await site.agent.tells(told);
    site.agent.signal('SIGTERM');
    await site.agent.tells(/in use: waiting/);
    t.equal((await user.read({ length: 4096 })).bytesRead, 4096, 'whoever uses a device keeps the agent');
    await user.close();
    while (site.agent.running) await sleep(50);
    await writeFile(hook, '');
    await writeFile(file, right);
    await site.agent.start();
    group = await sameAgain();
  }
});

t.test('an agent that dies whenever it starts', async (t) => {
  const { site, works, kill, sameAgain, told } = await production(t, 'loop');
  const working = works();
  for (let death = 1; death <= DEATHS; death += 1) {
    await kill();
    while ((await told(/serving what a predecessor served/g)) < death) await sleep(20);
  }
  for (let waits = 0; waits < 100 && (await told(/only serves/g)) === 0; waits += 1) await sleep(50);
  t.equal(await told(/only serves/g), 1, 'the last one does nothing but serve');
  t.ok(await working, 'production goes on meanwhile');
  t.ok(await works(), 'and then');
  site.agent.signal('SIGUSR2');
  await site.agent.answers();
  await sameAgain();
});
