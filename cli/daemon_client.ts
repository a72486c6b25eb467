/** Conversations with a daemon. */
import { AfterimageError } from '../proto/errors.js';
import { RpcClient } from '../service/rpc.js';
import { controlSocket, type ClientOptions, type DaemonName } from './option.js';
import type { Surroundings } from './surroundings.js';

/** Longest wait for an answer that the daemon has at hand. */
export const ANSWER_MS_MAX = 10_000;
/** Longest wait for what takes work: a point that is opened, a checkpoint that must become durable. */
export const WORK_MS_MAX = 120_000;

/** Runs `talk` with a client of the daemon's control socket, and hangs up. Errors: DAEMON_UNREACHABLE, PERMISSION_DENIED. */
export async function withDaemon<T>(
  daemon: DaemonName,
  options: ClientOptions,
  surroundings: Surroundings,
  talk: (client: RpcClient) => Promise<T>,
): Promise<T> {
  return withSocket(await controlSocket(daemon, options, surroundings), talk);
}

export async function withSocket<T>(socket: string, talk: (client: RpcClient) => Promise<T>): Promise<T> {
  const client = await RpcClient.openControl(socket);
  try {
    return await talk(client);
  } finally {
    client.close();
  }
}

/** Whether the daemon is not there, in contrast to one that answers with an error. */
export function isAway(thrown: unknown): thrown is AfterimageError {
  return thrown instanceof AfterimageError && thrown.code === 'DAEMON_UNREACHABLE';
}

/** Asks a daemon of which only the socket is known: one that does not know the receiver's service is an agent. */
export async function receiverElseAgent<T>(
  askReceiver: () => Promise<T>,
  askAgent: () => Promise<T>,
): Promise<T> {
  try {
    return await askReceiver();
  } catch (thrown) {
    if (!(thrown instanceof AfterimageError) || thrown.code !== 'PROTOCOL_VERSION') throw thrown;
    return askAgent();
  }
}
