/** Conversations with a daemon. */
import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError, type ErrorCode } from '../proto/errors.js';
import { parseAddress } from '../service/config.js';
import { RpcClient } from '../service/rpc.js';
import { freshLogin } from './logins.js';
import { controlSocket, remoteReceiver, type ClientOptions, type DaemonName } from './option.js';
import type { Surroundings } from './surroundings.js';

/** Longest wait for an answer that the daemon has at hand. */
export const ANSWER_MS_MAX = 10_000;
/** Longest wait for what takes work: a point that is opened, a checkpoint that must become durable. */
export const WORK_MS_MAX = 120_000;

/** What the other daemon would answer on the socket of the one that was meant. */
const STATUS_OF_OTHER = { agent: receiverControlService.status, receiver: agentControlService.status };
const OTHER: Readonly<Record<DaemonName, string>> = { agent: "a receiver's", receiver: "an agent's" };

/**
 * Runs `talk` with a client of the daemon's control socket, or of a receiver elsewhere, and hangs up. Errors:
 * DAEMON_UNREACHABLE, DAEMON_MISMATCH when the other daemon listens there, PERMISSION_DENIED, IDENTITY_*.
 */
export async function withDaemon<T>(
  daemon: DaemonName,
  options: ClientOptions,
  surroundings: Surroundings,
  talk: (client: RpcClient) => Promise<T>,
): Promise<T> {
  const elsewhere = daemon === 'receiver' ? remoteReceiver(options, surroundings) : null;
  if (elsewhere !== null) return withReceiverElsewhere(elsewhere, surroundings, talk);
  const socket = await controlSocket(daemon, options, surroundings);
  return withSocket(socket, async (client) => {
    try {
      return await talk(client);
    } catch (thrown) {
      // No call of a daemon's is known there: of another version, or the other daemon.
      if (!hasCode(thrown, 'PROTOCOL_VERSION') || !(await answers(client, STATUS_OF_OTHER[daemon])))
        throw thrown;
      const message = `${socket} is ${OTHER[daemon]} socket; this verb asks the ${daemon}`;
      throw new AfterimageError('DAEMON_MISMATCH', message, { cause: thrown });
    }
  });
}

export async function withSocket<T>(socket: string, talk: (client: RpcClient) => Promise<T>): Promise<T> {
  const client = await RpcClient.openControl(socket);
  try {
    return await talk(client);
  } finally {
    client.close();
  }
}

/** As whom this user has logged in there. Errors: IDENTITY_MISSING, IDENTITY_INVALID, DAEMON_UNREACHABLE, AUTHORITY_MISMATCH. */
async function withReceiverElsewhere<T>(
  address: string,
  surroundings: Surroundings,
  talk: (client: RpcClient) => Promise<T>,
): Promise<T> {
  const at = parseAddress(address, 1);
  if (at === null) throw new AfterimageError('USAGE', `${address} is no address`);
  const identity = await freshLogin(address, surroundings);
  const client = RpcClient.openTls(at, identity.authority, identity);
  try {
    return await talk(client);
  } finally {
    client.close();
  }
}

/** Whether the daemon is not there, in contrast to one that answers with an error. */
export function isAway(thrown: unknown): thrown is AfterimageError {
  return hasCode(thrown, 'DAEMON_UNREACHABLE');
}

export function hasCode(thrown: unknown, ...codes: ErrorCode[]): thrown is AfterimageError {
  return thrown instanceof AfterimageError && codes.includes(thrown.code);
}

/** Asks a daemon of which only the socket is known: one that does not know the receiver's service is an agent. */
export async function receiverElseAgent<T>(
  askReceiver: () => Promise<T>,
  askAgent: () => Promise<T>,
): Promise<T> {
  try {
    return await askReceiver();
  } catch (thrown) {
    if (!hasCode(thrown, 'PROTOCOL_VERSION')) throw thrown;
    return askAgent();
  }
}

type StatusMethod = (typeof STATUS_OF_OTHER)[DaemonName];

async function answers(client: RpcClient, status: StatusMethod): Promise<boolean> {
  try {
    // One of two methods, of which only the answer's type differs: it is not looked at.
    await client.callUnary<object, object>(status as never, {}, { timeoutMs: ANSWER_MS_MAX });
    return true;
  } catch {
    return false;
  }
}
