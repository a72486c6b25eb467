/** A volume as an NBD export on a Unix socket or a TCP port. */
import type * as native from '../native/index.js';
import type { Attachment } from './attachment.js';
import type { SocketAddress } from './config.js';
import type { VolumeCustody } from './custody.js';
import type { VolumeUse } from './volume_use.js';

/** Under the volume's name, which is the default export too. Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function attachSocket(
  volume: string,
  address: SocketAddress,
  device: native.BlockDevice,
  startNbdServer: typeof native.startNbdServer,
  use: VolumeUse,
  custody: VolumeCustody,
): Promise<Attachment> {
  await custody.keep(() => ({ attachment: { kind: 'socket', address }, descriptors: {} }));
  const description = `Afterimage protected volume ${volume}`;
  const server = await startNbdServer({
    unix: 'unix' in address ? address.unix : null,
    tcp: 'tcp' in address ? address.tcp : null,
    exports: [volume, ''].map((name) => ({ name, description, device, readOnly: false })),
  }).catch((thrown: unknown) => {
    custody.forget();
    throw thrown;
  });
  const clients = (): Promise<string | null> => {
    const { connections } = server;
    if (connections === 0) return Promise.resolve(null);
    return Promise.resolve(connections === 1 ? '1 NBD connection' : `${connections} NBD connections`);
  };
  return {
    device: server.address,
    async detach(end) {
      await use.untilNone(clients, end);
      await server.stop();
      custody.forget();
    },
  };
}
