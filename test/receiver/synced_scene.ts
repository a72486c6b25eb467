/** A receiver, and an agent whose volume it has in full: where most stories begin. */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { RunningReceiver } from './running_receiver.js';
import { newIdentity, ScriptedAgent, ScriptedStream, type Identity } from './scripted_agent.js';

const KIB = 1024;
/** Of the volume, bytes. */
export const SIZE = 4 * 1024 * KIB;

export interface Scene {
  receiver: RunningReceiver;
  agent: ScriptedAgent;
  stream: ScriptedStream;
}

/** A receiver, and an agent whose volume was synced while it was written to. */
export async function synced(test: Test): Promise<Scene> {
  const receiver = await RunningReceiver.start(test);
  return join(test, receiver, newIdentity(), 'host1', 'data');
}

/** A member with one volume, synced while it was written to. */
export async function join(
  test: Test,
  receiver: RunningReceiver,
  identity: Identity,
  host: string,
  name: string,
): Promise<Scene> {
  const agent = await ScriptedAgent.create(receiver.directory, identity, SIZE);
  const volumes = [{ ...agent.info, name }];
  test.teardown(() => agent.close());
  const stream = new ScriptedStream(receiver.address);
  test.teardown(() => stream.close());
  stream.say({ hello: agent.hello({ host, volumes }) });
  await stream.hear('welcome');
  stream.say({ generationBegin: { generation: 1n, firstLsn: 1n, reason: 'NEW', volumes } });
  await stream.hear('generationAccepted');
  agent.begin(1n, 1n);
  await agent.write(0, randomBytes(4 * KIB));
  agent.sendBase(stream);
  await agent.write(8 * KIB, randomBytes(512));
  const fence = await agent.fence();
  for (const frame of await agent.framesUpTo(fence)) stream.ship(frame);
  stream.say({ syncDone: { volume: 0, lsn: fence } });
  await stream.hear('syncComplete');
  return { receiver, agent, stream };
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
export function rfc3339(timeNs: bigint): string {
  const seconds = new Date(Number(timeNs / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(timeNs % 1_000_000_000n).toString().padStart(9, '0')}Z`;
}
