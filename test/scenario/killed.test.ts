/**
 * Real processes are killed with writes in flight (R6, R7, R8). A killed receiver costs nothing: production does not
 * notice, and the agent goes on from the durable LSN without a gap. After a killed agent the stream is a new one and
 * production is compared. Every point from before a kill holds after it what it held.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ended } from './command.js';
import { pseudorandom, SEED } from './seed.js';
import { nbdUri } from './site.js';
import { socketSite } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'killed';
const BYTES = 16 << 20;
const RECEIVER_KILLS = 3;
const AGENT_KILLS = 1;
/** Each round's load is ended before that. The ring must outlast what is written while the receiver is away. */
const SECONDS_MAX = 60;
const RING = '1GiB';
const STAMP_WRITER = fileURLToPath(new URL('../../../test/scenario/stamp_writer.py', import.meta.url));

interface Timeline {
  spans: { grade: string; generation: string }[];
}

t.test(`daemons that are killed with writes in flight (seed ${SEED})`, async (t) => {
  const options = { group: GROUP, ringBytes: RING, segmentBytes: '4MiB' };
  const { site, backing, ready } = await socketSite(t, 'killed', BYTES, options);
  const { scratch } = site;
  let { generation } = ready;
  const random = pseudorandom(SEED);
  /** What ordered points held when they were sampled, by LSN. */
  const samples = new Map<string, string>();

  const load = async (round: number): Promise<{ end: () => Promise<number | string> }> => {
    const uri = nbdUri(await site.agentGroup());
    const run = ['--seed', String(SEED + round), '--seconds', String(SECONDS_MAX), '--writers', '4'];
    const words = [STAMP_WRITER, '--target', uri, ...run, '--log', scratch.path('operations.jsonl')];
    const child = spawn('/usr/bin/python3', words, { stdio: 'ignore' });
    scratch.defer('writers', () => void child.kill('SIGKILL'));
    return {
      end: () => {
        child.kill('SIGTERM');
        return ended(child, SECONDS_MAX);
      },
    };
  };
  /** Under load: the newest durable point, which is ordered, is recovered; then, a little later, the kill. */
  const sampleThenWait = async (): Promise<number> => {
    const before = BigInt([...samples.keys()].at(-1) ?? 0);
    await site.waitFor('under load', 30, (group) => BigInt(group.durableLsn) > before);
    await sleep(random() * 1000);
    const { durableLsn } = await site.agentGroup();
    samples.set(durableLsn, hash(await site.recovered('disk', `lsn:${durableLsn}`)));
    const delayMs = Math.floor(random() * 1000);
    await sleep(delayMs);
    return delayMs;
  };
  const assertHistory = async (t: Test): Promise<void> => {
    const latest = await site.recovered('disk', 'latest');
    t.ok(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
    // A point that is no longer ordered would be refused.
    for (const [lsn, before] of samples)
      t.equal(hash(await site.recovered('disk', `lsn:${lsn}`)), before, `lsn:${lsn} holds what it held`);
  };

  for (let kill = 1; kill <= RECEIVER_KILLS; kill += 1) {
    const writers = await load(kill);
    const delayMs = await sampleThenWait();
    const atKill = await site.agentGroup();
    await site.receiver.kill();
    await site.receiver.start();
    t.equal(
      await writers.end(),
      0,
      `receiver killed ${delayMs} ms after a sample: production did not notice`,
    );
    const group = await site.settled();
    t.equal(group.generation, generation, 'the same stream goes on');
    t.ok(BigInt(group.durableLsn) > BigInt(atKill.capturedLsn), `from lsn:${atKill.durableLsn} on`);
    await assertHistory(t);
  }
  const { spans } = await site.ask<Timeline>('timeline', GROUP);
  t.same(
    spans.map(({ grade }) => grade).filter((grade) => grade !== 'syncing'),
    ['ordered'],
    'without a gap',
  );

  for (let kill = 1; kill <= AGENT_KILLS; kill += 1) {
    const writers = await load(RECEIVER_KILLS + kill);
    const delayMs = await sampleThenWait();
    await site.agent.kill();
    t.not(
      await writers.end(),
      0,
      `agent killed ${delayMs} ms after a sample: it was the server of the volume`,
    );
    await site.agent.start();
    const group = await site.settled();
    t.ok(BigInt(group.generation) > BigInt(generation), 'a new stream begins');
    generation = group.generation;
    await assertHistory(t);
  }
  t.equal(samples.size, RECEIVER_KILLS + AGENT_KILLS, 'every sample was another point');
});

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
