/**
 * A site whose receiver's store and agent's state lie in a directory that records every operation on them, while writers
 * write, connections are cut, and daemons are killed and started again; in the end history is shortened meanwhile. What comes of it is
 * the record, what was promised when, and the whole journal.
 */
import Database from 'better-sqlite3';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, copyFile, cp, mkdir, open, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EXIT } from '../../proto/errors.js';
import { FaultDirectory, type FaultRule } from '../fault/fault_directory.js';
import type { Operation } from '../fault/operation_log.js';
import { command, ended } from '../scenario/command.js';
import { readOperations, type Operation as Written } from '../scenario/oracle.js';
import type { Scratch } from '../scenario/scratch.js';
import { pseudorandom } from '../scenario/seed.js';
import { afterimage, nbdUri, Site } from '../scenario/site.js';
import { Disk } from './disk.js';
import type { PromisedAt } from './promises.js';
import { Relay } from './relay.js';

export const GROUP = 'db';
export const VOLUME_BYTES = 6 << 20;
export const VOLUMES = ['one', 'two'] as const;
/** What is recorded lies below these names. */
export const STORE = 'store';
export const STATE = 'state';
export const backingName = (volume: string): string => `${volume}.disk`;
/** What is written behind the agent, and changed back. */
export const BEHIND = { volume: 0, offset: 3 << 20, bytes: 4096 } as const;

const WRITERS = 4;
/** Of one writer between two operations, in the mean: the journal grows by some MiB a second. */
const PAUSE_MS = 10;
const ROUND_MS = 3500;
const WRITER_SECONDS_MAX = 90;
/** Until a fault has struck: what it strikes is done at least once a second. */
const STRUCK_MS_MAX = 20_000;
/** A disk takes its time, microseconds: while one sync is under way, others write, and more waits for the next. */
const SYNC_US = 1500;
const SEGMENT_SYNC_US = 4000;
/** The first sync has some 50 of these to make: it shall last for a while. */
const BASE_WRITE_US = 80_000;
const SYNC_MS = 1000;
/** In the end the bases are moved over what is older each time that a segment or two are full. */
const SHORT_HISTORY = '[retention]\nwindow = "1h"\nfloor = "1s"\nbytes_max = "8MiB"\n';
/** Of a base that is moved: there is time to die in the middle. */
const ROLL_WRITE_US = 1000;
const ROLL_MS = 1000;
const ROLLS = 3;
const ROLLED_MS_MAX = 120_000;
/** What the volumes hold before they are protected is written in this time. */
const BEFORE_SECONDS = 1;
/** The status of a verification that finds what was written behind the agent. */
const DIFFERS = 13;
/** A session was lost meanwhile: on a busy machine it may be. */
const UNAVAILABLE = 6;
const VERIFY_ATTEMPTS = 5;
const CAPTURED_MS_MAX = 60_000;
/** Between two rounds, in which the next state of a mark begins. */
const UNMARKED_SOON = 'unmark_after = "100ms"';
/** The receiver lags behind for so long while writers write, which is no more than the ring has room for; and then while they do not. */
const LAGGING_MS = 200;
const IDLE_MS = 800;
/** In each round the writers rest so often, for long enough that nothing stays marked, and write for so long in between. */
const RESTS = 6;
const REST_MS = 350;
const BETWEEN_RESTS_MS = 60;
const STAMP_WRITER = fileURLToPath(new URL('../../../test/scenario/stamp_writer.py', import.meta.url));

export interface Recording {
  operations: Operation[];
  /** The file that they were read from. */
  operationLog: string;
  promised: PromisedAt[];
  /** When `receiver init` had ended, CLOCK_MONOTONIC. */
  initNs: bigint;
  written: Written[];
  /** `base_lsn` of the volumes by number before the bases were moved: records up to there are not applied. */
  baseLsns: ReadonlyMap<number, bigint>;
  /** As the member's directory in the store: its bases before they were moved, and the whole journal. */
  memberDirectory: string;
}

/** Promises without which nothing would be judged. */
const HEARD: readonly PromisedAt['kind'][] = [
  'durable',
  'generation',
  'ordered',
  'base',
  'checkpoint',
  'difference',
  'epoch',
  'used',
];

/** What happens in a round while the writers write. */
type Incident = (site: Site, disk: FaultDirectory) => Promise<void>;

const INCIDENTS: readonly Incident[] = [
  async ({ receiver }) => {
    await receiver.kill();
    await receiver.start();
  },
  async (site) => {
    // Longer than the ring lasts: a new generation, and a resync through the journal.
    await site.receiver.stop();
    await site.waitFor('tracking', 60, ({ state }) => state === 'tracking');
    await site.receiver.start();
  },
  faults({ op: 'sync', path: '*.seg', do: 'fail', times: 1 }),
  async ({ receiver }) => {
    await receiver.stop();
    await receiver.start();
  },
  faults({ op: 'write', path: '*.seg', do: 'torn', bytes: 512, times: 1 }),
  async ({ receiver }) => {
    // Again before it has found its feet.
    await receiver.kill();
    await receiver.start();
    await receiver.kill();
    await receiver.start();
  },
  faults({ op: 'write', path: '*.seg', do: 'fail', errno: 'ENOSPC', times: 3 }),
  faults({ op: 'sync', path: '*-wal', do: 'fail', times: 1 }),
];

/** The disk fails so; whoever writes to it has to notice, and the agent comes back. */
function faults(rule: FaultRule): Incident {
  return async (_site, disk) => {
    const id = await disk.add(rule);
    for (const deadline = Date.now() + STRUCK_MS_MAX; Date.now() < deadline; await sleep(20)) {
      const report = (await disk.report()).find((each) => each.id === id);
      if ((report?.struck ?? 0) >= (rule.times ?? 1)) return disk.clear(id);
    }
    throw new Error(`nothing came upon ${rule.op} of ${rule.path}`);
  };
}

export async function record(scratch: Scratch, seed: number, rounds: number): Promise<Recording> {
  const recorded = await FaultDirectory.start(scratch, 'disk');
  await recorded.add({ op: 'sync', path: '*', do: 'delay', us: SYNC_US });
  await recorded.add({ op: 'sync', path: '*.seg', do: 'delay', us: SEGMENT_SYNC_US - SYNC_US });
  await recorded.add({ op: 'syncdir', path: '*', do: 'delay', us: SYNC_US });
  const backing = (name: string): string => path.join(recorded.mount, backingName(name));
  // A trim by nbdkit leaves what it cannot punch a hole into.
  const filled = (name: string): string => scratch.path(backingName(name));
  for (const name of VOLUMES) await command('truncate', ['-s', String(VOLUME_BYTES), filled(name)]);
  const written = await fill(scratch, seed, VOLUMES.map(filled));
  for (const name of VOLUMES) {
    await command('cp', ['--sparse=never', filled(name), backing(name)]);
    await command('sync', [backing(name)]);
  }
  let relay: Relay | null = null;
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes: VOLUMES.map((name) => ({ name, backing: backing(name), attach: 'socket' })),
    ringBytes: '8MiB',
    groupLines: [UNMARKED_SOON],
    segmentBytes: '4MiB',
    store: path.join(recorded.mount, STORE),
    state: path.join(recorded.mount, STATE),
    plain: true,
    via: async (listen) => {
      relay = await Relay.start(listen);
      return relay.listen;
    },
  });
  const between = relay as Relay | null;
  if (between === null) throw new Error('the agent has no way to the receiver');
  scratch.defer('relay', () => between.stop());
  const initNs = process.hrtime.bigint();
  const random = pseudorandom(seed);
  const slow = await recorded.add({ op: 'write', path: '*.img', do: 'delay', us: BASE_WRITE_US });
  await site.start();
  // While the first sync is under way: it begins anew, in another generation.
  await site.agent.kill();
  await site.agent.start();
  // And it goes on where it was.
  await sleep(random() * SYNC_MS);
  between.cut();
  await sleep(random() * SYNC_MS);
  await site.receiver.kill();
  await site.receiver.start();
  await recorded.clear(slow);
  await site.settled();

  let first = written.reduce((max, { op }) => Math.max(max, op), 0) + 1;
  for (let round = 0; round < rounds; round += 1) {
    const done = await writing(site, seed + round, first, async (rest) => {
      for (let count = 0; count < RESTS; count += 1) {
        await sleep(BETWEEN_RESTS_MS);
        await rest();
      }
      await sleep(random() * ROUND_MS);
      await checkpoint(site, `round-${round}`);
      between.cut();
      await sleep(random() * ROUND_MS);
      // Another seed begins elsewhere.
      await INCIDENTS[(seed + round) % INCIDENTS.length]?.(site, recorded);
      await sleep(random() * ROUND_MS);
      between.hold();
      await sleep(LAGGING_MS);
    });
    // Nobody writes, the backing is flushed, and the receiver does not have it yet.
    await sleep(IDLE_MS);
    between.release();
    written.push(...done);
    first = done.reduce((max, { op }) => Math.max(max, op), first) + 1;
    await site.settled();
    const exported = await site.ask<{ id: string }>('export', GROUP, '--at', 'latest');
    await site.ask('export', 'close', exported.id);
    // The generation ends with this round: of it nothing is called ordered any more.
    if (round === 0) await differ(site, backing(VOLUMES[BEHIND.volume]));
    // Killed without writers: a new generation, compared. Stopped in order: the same one goes on.
    if (round % 2 === 0) await site.agent.kill();
    else await site.agent.stop();
    await site.agent.start();
    await site.settled();
  }

  await site.receiver.stop();
  const store = path.join(recorded.backing, STORE);
  const whole = scratch.path('whole');
  const { baseLsns } = await catalogOf(scratch, store);
  await cp(
    await memberDirectory(store),
    path.join(whole, path.relative(store, await memberDirectory(store))),
    {
      recursive: true,
    },
  );
  const shortNs = process.hrtime.bigint();
  await appendFile(scratch.path('receiver.toml'), SHORT_HISTORY);
  written.push(...(await writing(site, seed + rounds, first, () => rolls(site, recorded, random))));
  await site.settled();
  await site.agent.stop();
  await site.receiver.stop();
  await recorded.stop();
  const operations = await recorded.operations();
  for (const kind of HEARD)
    if (!between.promised.some((promised) => promised.kind === kind))
      throw new Error(`nothing was heard of: ${kind}`);
  const { oldestLsn } = await catalogOf(scratch, store);
  await addJournal(await memberDirectory(whole), await memberDirectory(store), operations, shortNs);
  return {
    operations,
    operationLog: recorded.log,
    promised: [...between.promised, { kind: 'letGo', lsn: oldestLsn, ns: shortNs }],
    initNs,
    written,
    baseLsns,
    memberDirectory: await memberDirectory(whole),
  };
}

/** Writers write over all volumes while something happens; what they did. `first`: the number of their first operation. */
async function writing(
  site: Site,
  seed: number,
  first: number,
  meanwhile: (rest: () => Promise<void>) => Promise<void>,
): Promise<Written[]> {
  const { scratch } = site;
  const log = scratch.path(`operations-${first}.jsonl`);
  const group = await site.agentGroup();
  const targets = VOLUMES.flatMap((_, index) => ['--target', nbdUri(group, index)]);
  const run = ['--seed', String(seed), '--seconds', String(WRITER_SECONDS_MAX)];
  const load = ['--writers', String(WRITERS), '--pause-ms', String(PAUSE_MS), '--first', String(first)];
  const words = [STAMP_WRITER, ...targets, ...run, ...load, '--log', log];
  const writers = spawn('/usr/bin/python3', words, { stdio: 'inherit' });
  scratch.defer('writers', () => void writers.kill('SIGKILL'));
  await meanwhile(async () => {
    writers.kill('SIGSTOP');
    await sleep(REST_MS);
    writers.kill('SIGCONT');
  });
  writers.kill('SIGTERM');
  const status = await ended(writers, WRITER_SECONDS_MAX);
  if (status !== 0) throw new Error(`the writers ended with ${status}`);
  return readOperations(log);
}

/** Where the writers were faster than this machine, nothing is captured for a while. */
async function checkpoint(site: Site, name: string): Promise<void> {
  const words = ['checkpoint', 'create', GROUP, name, '--control', site.receiverControl];
  for (const deadline = Date.now() + CAPTURED_MS_MAX; ; await sleep(200)) {
    const { status, stderr } = await afterimage(words, [EXIT.refused]);
    if (status === 0) return;
    if (!stderr.includes('POINT_GRADE') || Date.now() > deadline) throw new Error(stderr);
  }
}

/** The receiver comes with a short history: it dies while it moves the bases, and later moves them again and again. */
async function rolls(site: Site, disk: FaultDirectory, random: () => number): Promise<void> {
  const slow = await disk.add({ op: 'write', path: '*.img', do: 'delay', us: ROLL_WRITE_US });
  await site.receiver.start();
  let last = await rolled(site, 0n);
  await sleep(random() * ROLL_MS);
  await site.receiver.kill();
  await site.receiver.start();
  for (let count = 1; count < ROLLS; count += 1) last = await rolled(site, last);
  await disk.clear(slow);
}

/** Waits until points up to `lsn` are gone, and more. */
async function rolled(site: Site, lsn: bigint): Promise<bigint> {
  for (const deadline = Date.now() + ROLLED_MS_MAX; Date.now() < deadline; await sleep(50)) {
    const oldest = BigInt((await site.receiverGroup()).oldestLsn);
    if (oldest > lsn) return oldest;
  }
  throw new Error(`nothing behind LSN ${lsn} was let go of`);
}

/** Adds to `target` the segments that `source` has, and those that were removed from there since, as they were then. */
async function addJournal(
  target: string,
  source: string,
  operations: readonly Operation[],
  sinceNs: bigint,
): Promise<void> {
  const journal = path.join(target, 'journal');
  await mkdir(journal, { recursive: true });
  const disk = new Disk(operations);
  const all = { hasName: () => true, hasSector: () => true, hasSize: () => true };
  const removed = operations.filter(
    ({ kind, error, beginNs, path: name }) =>
      kind === 'unlink' && error === 0 && beginNs >= sinceNs && name.endsWith('.seg'),
  );
  for (const { begin, path: name } of removed.sort((left, right) => left.begin - right.begin)) {
    disk.advance(begin - 1);
    const file = disk.choose(all).files.find((each) => each.path === name);
    if (file !== undefined) await writeFile(path.join(journal, path.basename(name)), file.content());
  }
  await cp(path.join(source, 'journal'), journal, { recursive: true });
}

/** Somebody writes behind the agent, and a verification finds it; then it is as it was, as if nothing had been written. */
async function differ(site: Site, file: string): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const { offset, bytes } = BEHIND;
    const before = Buffer.alloc(bytes);
    await handle.read(before, 0, bytes, offset);
    await handle.write(Buffer.alloc(bytes, 'behind'), 0, bytes, offset);
    const verify = ['verify', GROUP, '--control', site.agentControl, '--json'];
    let status = UNAVAILABLE;
    for (let attempt = 0; attempt < VERIFY_ATTEMPTS && status === UNAVAILABLE; attempt += 1) {
      await site.settled();
      ({ status } = await afterimage(verify, [DIFFERS, UNAVAILABLE]));
    }
    if (status !== DIFFERS) throw new Error(`the verification has found nothing: ${status}`);
    await handle.write(before, 0, bytes, offset);
  } finally {
    await handle.close();
  }
}

/** Of a store that nobody has open; a copy is read, so that nothing of it is changed. */
async function catalogOf(
  scratch: Scratch,
  store: string,
): Promise<{ baseLsns: Map<number, bigint>; oldestLsn: bigint }> {
  const copy = scratch.path('catalog.sqlite');
  await copyFile(path.join(store, 'catalog.sqlite'), copy);
  const database = new Database(copy);
  database.defaultSafeIntegers(true);
  const bases = database.prepare<[], { number: bigint; lsn: bigint }>(
    'SELECT number, base_lsn AS lsn FROM volumes',
  );
  const baseLsns = new Map(bases.all().map(({ number, lsn }) => [Number(number), lsn]));
  const windows = database.prepare<[], { lsn: bigint }>('SELECT oldest_lsn AS lsn FROM held_windows');
  const oldestLsn = windows.all()[0]?.lsn ?? 0n;
  database.close();
  return { baseLsns, oldestLsn };
}

/** Writes to the volumes before anybody protects them: their bases are not to be empty. */
async function fill(scratch: Scratch, seed: number, files: readonly string[]): Promise<Written[]> {
  const log = scratch.path('operations-before.jsonl');
  const served = files.map((file, index) => ({ file, socket: scratch.path(`before-${index}.sock`) }));
  const servers = served.map(({ file, socket }) =>
    spawn('nbdkit', ['--foreground', '--unix', socket, 'file', file], { stdio: 'ignore' }),
  );
  try {
    for (const { socket } of served) while (!existsSync(socket)) await sleep(20);
    const targets = served.flatMap(({ socket }) => ['--target', `nbd+unix:///?socket=${socket}`]);
    const run = ['--seed', String(seed - 1), '--seconds', String(BEFORE_SECONDS), '--log', log];
    await command('/usr/bin/python3', [STAMP_WRITER, ...targets, ...run]);
  } finally {
    for (const server of servers) server.kill('SIGTERM');
    for (const server of servers) await ended(server, 30);
  }
  return readOperations(log);
}

/** …/groups/<group>/<member>, of which this store has one. */
export async function memberDirectory(store: string): Promise<string> {
  const groups = path.join(store, 'groups');
  const [group = ''] = await readdir(groups);
  const [member = ''] = await readdir(path.join(groups, group));
  return path.join(groups, group, member);
}
