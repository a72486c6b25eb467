/** What nobody can take back about pins is asked first, with what it means in numbers. */
import { receiverControlService, type GroupStatus } from '../proto/control.js';
import { formatTime } from '../proto/time.js';
import type { RpcClient } from '../service/rpc.js';
import { confirm, type AskOptions } from './confirmation.js';
import { ANSWER_MS_MAX } from './daemon_client.js';
import { lockCost, unpinLoss } from './pin_consequence.js';
import type { Surroundings } from './surroundings.js';

/** A named point, or one that is about to be. */
interface Named {
  group: string;
  name: string;
}

/** Asks where retention would let go of history by it. Errors: USAGE where nobody can be asked, INTERRUPTED. */
export async function confirmUnpin(
  client: RpcClient,
  { group, name }: Named,
  options: AskOptions,
  surroundings: Surroundings,
): Promise<void> {
  if (options.yes === true) return;
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
  const { checkpoints } = await client.callUnary(receiverControlService.checkpointList, { group }, limits);
  const checkpoint = checkpoints.find((one) => one.name === name);
  // One that is not there, or locked, is the receiver's to refuse.
  if (checkpoint?.pinned !== true) return;
  const loss = unpinLoss(checkpoint, checkpoints, await membersOf(client, group, surroundings));
  if (loss === null) return;
  const consequence = `without ${name} retention forgets, of ${group}, ${loss}`;
  const otherwise = `${name} of ${group} is as it was`;
  await confirm({ question: 'Unpin it?', consequence, otherwise }, options, surroundings);
}

/** Asks whether it shall be locked until then; 0n: there is to be no lock. Errors: USAGE where nobody can be asked, INTERRUPTED. */
export async function confirmLock(
  client: RpcClient,
  { group, name, lockUntilNs }: Named & { lockUntilNs: bigint },
  options: AskOptions,
  surroundings: Surroundings,
): Promise<void> {
  if (lockUntilNs === 0n || options.yes === true) return;
  const lengthNs = lockUntilNs - BigInt(surroundings.now()) * 1_000_000n;
  const cost = lockCost(lengthNs, await membersOf(client, group, surroundings));
  const growth = cost === null ? '' : `, and at the present rate the store grows by ${cost}`;
  const consequence =
    `no role lifts the lock of ${name} before ${formatTime(lockUntilNs)}: all history of ${group} behind it stays until then${growth}; ` +
    'a store that is full takes nothing more';
  const otherwise = `${name} of ${group} is not locked`;
  await confirm({ question: 'Lock it?', consequence, otherwise }, options, surroundings);
}

async function membersOf(
  client: RpcClient,
  group: string,
  { stop }: Surroundings,
): Promise<readonly GroupStatus[]> {
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: stop.drain };
  const { groups } = await client.callUnary(receiverControlService.status, {}, limits);
  return groups.filter(({ name }) => name === group);
}
