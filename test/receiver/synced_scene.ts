/** What most tests of a receiver begin with: one agent, one volume, synced; and what they ask of it. */
import { createHmac, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { formatUuid } from '../../proto/uuid.js';
import type { Identity as Certified } from '../../service/identity.js';
import { RunningReceiver } from './running_receiver.js';
import { newIdentity, ScriptedAgent, ScriptedStream, type Identity } from './scripted_agent.js';

const KIB = 1024;
const MIB = 1024 * KIB;
export const SIZE = 4 * MIB;

export interface Scene {
  receiver: RunningReceiver;
  agent: ScriptedAgent;
  stream: ScriptedStream;
  /** Of its session. */
  hashKey: Buffer;
}

/** A receiver, and an agent whose volume was synced while it was written to. */
export async function synced(test: Test): Promise<Scene> {
  const receiver = await RunningReceiver.start(test);
  return join(test, receiver, newIdentity(), 'host1', 'data');
}

/** A member with one volume, synced while it was written to; `as`: by TLS. */
export async function join(
  test: Test,
  receiver: RunningReceiver,
  identity: Identity,
  host: string,
  name: string,
  groupName = 'db',
  as: Certified | null = null,
  { size = SIZE, onStep = () => undefined }: { size?: number; onStep?: ScriptedStream['onStep'] } = {},
): Promise<Scene> {
  const agent = await ScriptedAgent.create(receiver.directory, identity, size);
  const volumes = [{ ...agent.info, name }];
  test.teardown(() => agent.close());
  const stream = new ScriptedStream(as === null ? receiver.address : receiver.tlsAddress, as);
  test.teardown(() => stream.close());
  stream.onStep = onStep;
  stream.say({ hello: agent.hello({ groupName, host, volumes }) });
  const { hashKey } = await stream.hear('welcome');
  stream.say({ generationBegin: { generation: 1n, firstLsn: 1n, reason: 'NEW', volumes } });
  await stream.hear('generationAccepted');
  agent.begin(1n, 1n);
  await agent.write(0, randomBytes(4 * KIB));
  await agent.sendBase(stream);
  await agent.write(8 * KIB, randomBytes(512));
  const fence = await agent.fence();
  for (const frame of await agent.framesUpTo(fence)) stream.ship(frame);
  stream.say({ syncDone: { volume: 0, lsn: fence } });
  await stream.hear('syncComplete');
  return { receiver, agent, stream, hashKey };
}

/** Writes `count` times here and there, ships it, and waits until it is durable. */
export async function writeMore(
  { agent, stream }: Pick<Scene, 'agent' | 'stream'>,
  count: number,
): Promise<bigint[]> {
  const lsns: bigint[] = [];
  for (let index = 0; index < count; index += 1) {
    const length = 512 * (1 + (index % 40));
    const offset = ((index * 37) % 200) * 16 * KIB;
    lsns.push(await agent.write(offset, index % 7 === 3 ? Buffer.alloc(length) : randomBytes(length)));
  }
  const last = lsns.at(-1) ?? 0n;
  for (const frame of await agent.framesUpTo(last)) stream.ship(frame);
  await stream.hearAck(last);
  return lsns;
}

/** The ring was full after `last`: the stream ends and generation 2 begins. Returns its first LSN, and when the gap began. */
export async function ringFull(
  { agent, stream }: Pick<Scene, 'agent' | 'stream'>,
  last: bigint,
): Promise<{ firstLsn: bigint; endNs: bigint }> {
  agent.endStream();
  const end = await agent.end();
  const endNs = agent.position().timeNs + 1n;
  const reason = 'RING_FULL';
  stream.say({ streamEnd: { generation: 1n, lastLsn: end.lastLsn, reason, timeNs: endNs } });
  const firstLsn = last + 1000n;
  stream.say({ generationBegin: { generation: 2n, firstLsn, reason, volumes: [agent.info] } });
  await stream.hear('generationAccepted');
  return { firstLsn, endNs };
}

export function journalDirectory({ receiver, agent }: Pick<Scene, 'receiver' | 'agent'>): string {
  const { group, member } = agent.identity;
  return path.join(receiver.store, 'groups', formatUuid(group), formatUuid(member), 'journal');
}
export async function lastSegment(scene: Pick<Scene, 'receiver' | 'agent'>): Promise<string> {
  const directory = journalDirectory(scene);
  const names = (await readdir(directory)).filter((name) => name.endsWith('.seg')).sort();
  return path.join(directory, names.at(-1) ?? '');
}
export async function recovered(
  { receiver }: Pick<Scene, 'receiver'>,
  point: string,
  name = 'out',
): Promise<Buffer> {
  const target = path.join(receiver.directory, `${name}-${randomBytes(3).toString('hex')}`);
  await receiver.recover({ point, target, force: false });
  return readFile(target);
}
export async function grades({ receiver }: Pick<Scene, 'receiver'>): Promise<string[]> {
  const { spans } = await receiver.call('timeline', { group: 'db' });
  return spans.map(({ grade, firstLsn, lastLsn }) => `${grade} ${firstLsn}-${lastLsn}`);
}

/**
 * The agent comes back as a new process and begins a generation, compared block by block with what the receiver still
 * has. `meanwhile`: when the receiver has read and told what it has. Returns how many blocks differed.
 */
export async function resync(
  test: Test,
  { receiver, agent }: Scene,
  last: bigint,
  meanwhile: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  const stream = new ScriptedStream(receiver.address);
  test.teardown(() => stream.close());
  const epoch = agent.identity.epoch + 1n;
  stream.say({
    hello: agent.hello({ epoch, instance: randomBytes(16), generation: 1n, durableLsn: last }),
  });
  const welcome = await stream.hear('welcome');
  test.equal(welcome.durableLsn, last, 'no number is used twice');
  agent.endStream();
  await agent.end();
  agent.identity.epoch = epoch;
  const firstLsn = last + 1n;
  stream.say({
    generationBegin: { generation: 2n, firstLsn, reason: 'SEGMENT_CORRUPT', volumes: [agent.info] },
  });
  await stream.hear('generationAccepted');
  agent.begin(2n, firstLsn);
  stream.say({ syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: false } });
  stream.say({ hashRequest: { id: 1, volume: 0, offset: 0n, length: SIZE, blockBytes: 64 * KIB } });
  const { hashes } = await stream.hear('hashReply');
  await meanwhile();
  let different = 0;
  for (let block = 0; block * 64 * KIB < SIZE; block += 1) {
    const content = agent.present.subarray(block * 64 * KIB, (block + 1) * 64 * KIB);
    const mine = createHmac('sha256', welcome.hashKey).update(content).digest();
    if (mine.equals(hashes.subarray(block * 32, block * 32 + 32))) continue;
    different += 1;
    await agent.republish(block * 64 * KIB, 64 * KIB);
  }
  if (different === 0) throw new Error('the receiver has everything: nothing is to be resynced');
  const fence = await agent.fence();
  for (const frame of await agent.framesUpTo(fence)) stream.ship(frame);
  stream.say({ syncDone: { volume: 0, lsn: fence } });
  test.match(await stream.hear('syncComplete'), { lsn: fence });
  return different;
}

export function exportOf(point: string) {
  return {
    group: 'db',
    point,
    writable: false,
    socket: '',
    tcp: '',
    device: false,
    volumes: [],
    force: false,
  };
}
/** Offset of the frame that begins with `lsn`, found by docs/FORMAT.md. */
export function offsetOf(bytes: Buffer, lsn: bigint): number {
  for (const { at, first, last } of framesOf(bytes)) {
    if (first > lsn || lsn > last) continue;
    if (first !== lsn) throw new Error(`LSN ${lsn} lies within a frame`);
    return at;
  }
  throw new Error(`no frame holds LSN ${lsn}`);
}
/** Where a segment's last frame ends. */
export function endOf(bytes: Buffer): number {
  const last = framesOf(bytes).at(-1);
  return last === undefined ? 4096 : last.at + bytes.readUInt32LE(last.at + 120);
}
function framesOf(bytes: Buffer): { at: number; first: bigint; last: bigint }[] {
  const frames: { at: number; first: bigint; last: bigint }[] = [];
  let at = 4096;
  while (bytes.toString('latin1', at, at + 8) === 'AFTFRAME') {
    frames.push({ at, first: bytes.readBigUInt64LE(at + 64), last: bytes.readBigUInt64LE(at + 72) });
    at += bytes.readUInt32LE(at + 120);
  }
  return frames;
}
