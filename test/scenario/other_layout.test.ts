/** Memory that a killed agent left is of another layout than the next one knows. */
import { closeSync, openSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { production } from './production.js';

t.setTimeout(600_000);

/** Changes 4 bytes of a memfd that the supervisor keeps. */
function damage(supervisor: number, name: string, offset: number): void {
  const directory = `/proc/${supervisor}/fd`;
  const found = readdirSync(directory).filter((fd) =>
    readlinkSync(`${directory}/${fd}`).includes(`memfd:${name}`),
  );
  if (found.length !== 1) throw new Error(`${found.length} descriptors of ${name}`);
  const descriptor = openSync(`${directory}/${found[0]}`, 'r+');
  writeSync(descriptor, Buffer.alloc(4, 0xee), 0, 4, offset);
  closeSync(descriptor);
}

t.test('a ring of another layout', async (t) => {
  const { site, before, works, kill, sameAgain } = await production(t, 'ring');
  damage(site.agent.pid, 'afterimage-ring', 8);
  await kill();
  t.ok(await works(), 'production goes on');
  const after = await sameAgain();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'the stream is another one');
  t.match(await site.agent.tail(), /RING_LAYOUT/);
});

t.test('request slots of another layout', async (t) => {
  const { site, before, works, kill, sameAgain, told } = await production(t, 'slots');
  damage(site.agent.pid, 'afterimage-slots', 8);
  const working = works();
  await sleep(300);
  await kill();
  t.ok(await working, 'production goes on, since this kernel sends again what nobody answered');
  t.equal((await sameAgain()).generation, before.generation);
  t.equal(await told(/SLOTS_LAYOUT/g), 1);
  // Symptom: the store went on keeping the old ones, so that each successor had to do without what was under way.
  const again = works();
  await sleep(300);
  await kill();
  t.ok(await again);
  t.equal((await sameAgain()).generation, before.generation);
  t.equal(await told(/SLOTS_LAYOUT/g), 1, 'the one after has the new slots');
});

t.test('a table of writes in flight of another layout', async (t) => {
  const { site, before, works, kill, sameAgain, told } = await production(t, 'table');
  damage(site.agent.pid, 'afterimage-in-flight', 8);
  await kill();
  t.ok(await works(), 'production goes on');
  const after = await sameAgain();
  t.ok(BigInt(after.generation) > BigInt(before.generation), 'the stream is another one');
  await kill();
  t.ok(await works());
  t.equal((await sameAgain()).generation, after.generation, 'the one after has the new table');
  t.equal(await told(/what was being written is not known/g), 1);
});
