/** What an attacker, or anybody, says to a receiver by TLS, and what comes of it. */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { Test } from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { RpcClient } from '../../service/rpc.js';
import type { Identity } from '../../service/identity.js';
import type { NetworkAddress } from '../../service/config.js';

/** A client that goes with the test; `own`: null: without a certificate. */
export function clientOf(
  test: Test,
  address: NetworkAddress,
  authority: string,
  own: Identity | null,
): RpcClient {
  const client = RpcClient.openTls(address, authority, own);
  test.teardown(() => client.close());
  return client;
}

/** The code with which `work` fails. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'ok';
  } catch (thrown) {
    if (thrown instanceof AfterimageError) return thrown.code;
    throw thrown;
  }
}

/** Bytes that come back until the other side hangs up, or 'open' when it has not within `ms`. */
export async function sayPlain(
  { host, port }: NetworkAddress,
  bytes: Buffer,
  ms: number,
): Promise<Buffer | 'open'> {
  const connection = net.connect({ host, port });
  await once(connection, 'connect');
  const came: Buffer[] = [];
  connection.on('data', (data: Buffer) => came.push(data));
  connection.on('error', () => undefined);
  connection.write(bytes);
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      connection.destroy();
      resolve('open');
    }, ms);
    connection.once('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(came));
    });
  });
}

/** How a handshake goes: 'secure', or the error's code. */
export async function handshake(address: NetworkAddress, options: tls.ConnectionOptions): Promise<string> {
  const connection = tls.connect({ ...address, rejectUnauthorized: false, ...options });
  try {
    return await new Promise((resolve) => {
      connection.once('secureConnect', () => resolve('secure'));
      connection.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      connection.once('close', () => resolve('closed'));
    });
  } finally {
    connection.destroy();
  }
}
