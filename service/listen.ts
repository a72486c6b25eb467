/** Listening sockets: Unix sockets for their owner alone, and TCP. */
import { once } from 'node:events';
import { lstat, mkdir, unlink } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { refuseUnsafeDirectory } from './safe_path.js';
import { isForbidden } from './system_errors.js';
import { formatAddress, SOCKET_PATH_BYTES_MAX, type NetworkAddress } from './settings.js';

/** Reads and writes for the owner only, from the moment that the socket exists. */
const OWNER_ONLY_UMASK = 0o177;

/**
 * Listens on a Unix socket of mode 0600. A missing directory is made with mode 0700; a socket that nobody answers on
 * is replaced. Closing the server removes the socket. Errors: LISTEN_BUSY, LISTEN_FAILED, PATH_UNSAFE, PERMISSION_DENIED.
 */
export async function listenUnix(server: net.Server, socket: string): Promise<void> {
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    throw new AfterimageError('LISTEN_FAILED', `${socket} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  try {
    await mkdir(path.dirname(socket), { recursive: true, mode: 0o700 });
    await refuseUnsafeDirectory(path.dirname(socket));
    await removeStale(socket);
    await listening(server, () => {
      // listen() binds before it returns, so no other file is created under this mask.
      const umask = process.umask(OWNER_ONLY_UMASK);
      try {
        server.listen({ path: socket });
      } finally {
        process.umask(umask);
      }
    });
  } catch (thrown) {
    throw listenError(thrown, socket);
  }
}

/** Listens on TCP and gives the address with the port that it got. Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
export async function listenTcp(server: net.Server, address: NetworkAddress): Promise<NetworkAddress> {
  try {
    await listening(server, () => server.listen({ host: address.host, port: address.port }));
  } catch (thrown) {
    throw listenError(thrown, formatAddress(address));
  }
  return { host: address.host, port: (server.address() as net.AddressInfo).port };
}

/**
 * Connects and hangs up. Errors: DAEMON_UNREACHABLE when nobody listens at `socket`, PERMISSION_DENIED when it may not
 * be used.
 */
export async function probeUnix(socket: string): Promise<void> {
  const code = await connectCode(socket);
  if (code === null) return;
  if (isForbidden(code)) {
    throw new AfterimageError('PERMISSION_DENIED', `${socket} may not be used by this user`);
  }
  const reason = code === 'ENOENT' ? 'there is no such socket' : `nobody listens there (${code})`;
  throw new AfterimageError('DAEMON_UNREACHABLE', `${socket}: ${reason}`);
}

/** Removes a Unix socket that nobody listens on. Errors: LISTEN_BUSY, LISTEN_FAILED when it is none. */
export async function removeStale(socket: string): Promise<void> {
  const stat = await lstat(socket).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return null;
    throw cause;
  });
  if (stat === null) return;
  if (!stat.isSocket()) throw new AfterimageError('LISTEN_FAILED', `${socket} exists and is not a socket`);
  const code = await connectCode(socket);
  // Anything but a refusal may be a live server that is merely overwhelmed.
  if (code !== 'ECONNREFUSED' && code !== 'ENOENT') {
    throw new AfterimageError('LISTEN_BUSY', `${socket} is in use by another process`);
  }
  if (code === 'ECONNREFUSED') await unlink(socket);
}

/** The errno name with which connecting fails, or null. */
function connectCode(socket: string): Promise<string | null> {
  return new Promise((resolve) => {
    const connection = net.connect({ path: socket });
    connection.once('connect', () => {
      connection.destroy();
      resolve(null);
    });
    connection.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'UNKNOWN'));
  });
}

async function listening(server: net.Server, listen: () => void): Promise<void> {
  // It leaves no handler behind when it fails: some try again on the same server.
  const begun = once(server, 'listening');
  listen();
  await begun;
  // One connection that could not be accepted (EMFILE say): the listener goes on, and so must the daemon.
  server.on('error', () => undefined);
}

function listenError(thrown: unknown, address: string): AfterimageError {
  if (thrown instanceof AfterimageError) return thrown;
  const { code, message } = toAfterimageError(thrown).cause as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') {
    return new AfterimageError('LISTEN_BUSY', `${address} is in use by another process`, { cause: thrown });
  }
  if (isForbidden(code)) {
    return new AfterimageError('PERMISSION_DENIED', `${address}: ${message}`, { cause: thrown });
  }
  return new AfterimageError('LISTEN_FAILED', `${address}: ${message}`, { cause: thrown });
}
