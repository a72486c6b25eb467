/**
 * The receiver is away for longer than the ring lasts, and there is a spool (R5, R6, R7): an outage shorter than ring and
 * spool leaves no gap, also when the agent is killed meanwhile; a longer one is tracked, and resynced by itself.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { command } from './command.js';
import { socketSite } from './socket_site.js';

t.setTimeout(600_000);

const GROUP = 'long';
const BYTES = 64 << 20;
const MIB = 1 << 20;
/** The resync lasts for some fifteen seconds. */
const RATE_MIB = 4;

/** Verified writes at a pace that a disk has for the spool. */
const write = (uri: string, seed: number, megabytes: number): Promise<unknown> =>
  command('fio', [
    ...['--name=load', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=16k', '--iodepth=8'],
    ...[`--io_size=${megabytes}M`, `--size=${BYTES}`, `--randseed=${seed}`, '--rate=10M'],
    ...['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0'],
  ]);

t.test('an outage longer than the ring and shorter than ring and spool leaves no gap', async (t) => {
  const options = {
    group: GROUP,
    ringBytes: '8MiB',
    groupLines: ['spool_bytes_max = "256MiB"'],
    supervised: true,
  };
  const { site, backing, uri, ready } = await socketSite(t, 'long-outage', BYTES, options);
  await write(uri, 1, 4);
  const before = await site.settled();
  const beforeImage = await readFile(backing);

  await site.receiver.stop();
  await write(uri, 2, 40);
  const away = await site.agentGroup();
  t.ok(away.spoolUsedBytes > 16 * MIB, `${away.spoolUsedBytes} bytes are spooled`);
  t.equal(away.state, 'disconnected');
  const pid = site.agent.supervisedPid();
  if (pid === null) throw new Error('no agent below the supervisor');
  process.kill(pid, 'SIGKILL');
  while ([null, pid].includes(site.agent.supervisedPid())) await sleep(10);
  await site.agent.answers();
  await write(uri, 3, 16);
  const killed = await site.agentGroup();
  t.ok(BigInt(killed.capturedLsn) > BigInt(away.capturedLsn), 'its successor captures');
  t.ok(killed.spoolUsedBytes > away.spoolUsedBytes, 'and spools what follows');
  await site.receiver.start();
  const after = await site.settled();
  t.equal(after.generation, ready.generation, 'one generation');
  t.equal(after.spoolUsedBytes, 0);
  const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
  t.notOk(
    spans.some(({ grade }) => grade === 'gap'),
    `no gap: ${spans.map(({ grade }) => grade).join(', ')}`,
  );
  t.ok((await site.recovered('disk', `lsn:${before.durableLsn}`)).equals(beforeImage));
  t.ok(
    (await site.recovered('disk', 'latest')).equals(await readFile(backing)),
    'source and replica are equal',
  );
});

t.test('one longer than both is tracked, and resynced at a bounded rate', async (t) => {
  const options = {
    group: GROUP,
    ringBytes: '8MiB',
    groupLines: ['spool_bytes_max = "16MiB"', `resync_rate_max = "${RATE_MIB}MiB"`],
  };
  const { site, backing, uri, ready } = await socketSite(t, 'longer-outage', BYTES, options);
  await write(uri, 1, 4);
  const before = await site.settled();
  const beforeImage = await readFile(backing);
  await site.receiver.stop();
  await write(uri, 2, 48);
  const full = await site.waitFor('tracking', 30, ({ state }) => state === 'tracking');
  t.match(full.detail, /SPOOL_FULL/);
  await site.receiver.start();
  await site.waitFor('a resync', 120, ({ state }) => state === 'resync');
  const beganMs = Date.now();
  t.ok((await site.recovered('disk', `lsn:${before.durableLsn}`)).equals(beforeImage), 'history stays (R6)');
  await write(uri, 3, 2);
  const { capturedLsn } = await site.agentGroup();
  const live = await site.waitFor(
    'live writes',
    60,
    (group) => BigInt(group.durableLsn) >= BigInt(capturedLsn),
  );
  t.equal(live.state, 'resync', 'they are durable while the resync goes on');
  const after = await site.settled();
  const [volume] = after.volumes;
  const rate = (volume?.resyncComparedBytes ?? 0) / ((Date.now() - beganMs) / 1000);
  t.ok(rate < RATE_MIB * MIB, `${rate / MIB} MiB/s were compared`);
  t.not(after.generation, ready.generation);
  const { spans } = await site.ask<{ spans: { grade: string }[] }>('timeline', GROUP);
  t.ok(spans.some(({ grade }) => grade === 'gap'));
  t.equal(spans.at(-1)?.grade, 'ordered');
  t.ok(
    (await site.recovered('disk', 'latest')).equals(await readFile(backing)),
    'source and replica are equal',
  );
});
