/**
 * A volume as an NBD export on a Unix socket or a TCP port. The socket that listens outlives the process in the descriptor
 * store: clients that have lost their connection connect again at once, and wait there for a successor.
 */
import type * as native from '../native/index.js';
import type { Attachment } from './attachment.js';
import type { SocketAddress } from './config.js';
import type { AttachmentCustody } from './custody.js';
import type { VolumeUse } from './volume_use.js';

export type SocketDoor = Pick<typeof native, 'openNbdServer'>;

/** Under the volume's name, which is the default export too. Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function attachSocket(
  volume: string,
  address: SocketAddress,
  device: native.BlockDevice,
  door: SocketDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
): Promise<Attachment> {
  const server = await door.openNbdServer(optionsOf(volume, address, device), null);
  return serve(server, address, use, custody);
}

/**
 * Goes on with what a predecessor served. `listening`: its socket, or null. `isKept`: all that the store has of the volume
 * is right. Errors: LISTEN_BUSY, LISTEN_FAILED.
 */
export async function resumeSocket(
  volume: string,
  address: SocketAddress,
  listening: number | null,
  isKept: boolean,
  device: native.BlockDevice,
  door: SocketDoor,
  use: VolumeUse,
  custody: AttachmentCustody,
): Promise<Attachment> {
  const server = await door.openNbdServer(optionsOf(volume, address, device), listening);
  // While the store forgets it and gets it again, a process that dies would leave nothing of it.
  const still = isKept && listening !== null ? { ...custody, keep: () => Promise.resolve() } : custody;
  return serve(server, address, use, still);
}

function optionsOf(
  volume: string,
  address: SocketAddress,
  device: native.BlockDevice,
): native.NbdServerOptions {
  const description = `Afterimage protected volume ${volume}`;
  return {
    unix: 'unix' in address ? address.unix : null,
    tcp: 'tcp' in address ? address.tcp : null,
    exports: [volume, ''].map((name) => ({ name, description, device, readOnly: false })),
  };
}

async function serve(
  server: native.NbdServer,
  address: SocketAddress,
  use: VolumeUse,
  custody: AttachmentCustody,
): Promise<Attachment> {
  try {
    await custody.keep(() => ({
      attachment: { kind: 'socket', address },
      descriptors: { listening: server.listening() },
    }));
    server.admit();
  } catch (thrown) {
    custody.forget();
    await server.stop();
    throw thrown;
  }
  const clients = (): Promise<string | null> => {
    const { connections } = server;
    if (connections === 0) return Promise.resolve(null);
    return Promise.resolve(connections === 1 ? '1 NBD connection' : `${connections} NBD connections`);
  };
  const finish = async (): Promise<void> => {
    await server.stop();
    custody.forget();
  };
  return {
    device: server.address,
    usedBy: clients,
    grow: () => Promise.resolve(), // each connection is told when it begins
    async detach(end) {
      await use.untilNone(clients, end);
      await finish();
    },
    detachUnused: async () => ((await clients()) === null ? finish : null),
  };
}
