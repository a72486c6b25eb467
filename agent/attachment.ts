/** How the protected host gets at a volume. loop_attachment.ts is the other kind. */
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';
import type { Clock } from './clock.js';
import type { SocketAddress } from './config.js';

export interface Attachment {
  /** What the host uses: "/dev/loop3", "unix:/path", "tcp:127.0.0.1:10809". */
  readonly device: string;
  /**
   * Takes the volume away from the host. Production first: waits as long as somebody uses it, unless `end` aborts.
   */
  detach(end: AbortSignal): Promise<void>;
}

const IN_USE_POLL_MS = 200;
const IN_USE_LOG_MS = 10_000;

/**
 * Waits until `usedBy` gives null, asking several times a second and telling the log now and then who is in the way.
 * Returns false when `end` aborted before.
 */
export async function untilUnused(
  volume: string,
  usedBy: () => Promise<string | null>,
  clock: Clock,
  log: Log,
  end: AbortSignal,
): Promise<boolean> {
  let loggedAt = -Infinity;
  for (;;) {
    const user = await usedBy();
    if (user === null) return true;
    if (end.aborted) {
      log.warn({ volume, usedBy: user }, 'the volume is taken away although it is in use');
      return false;
    }
    if (clock.monotonicMs() - loggedAt >= IN_USE_LOG_MS) {
      log.warn({ volume, usedBy: user }, 'the volume is in use: waiting; a second signal takes it away');
      loggedAt = clock.monotonicMs();
    }
    await clock.sleep(IN_USE_POLL_MS, end).catch(() => undefined);
  }
}

/** An NBD export under the volume's name, which is the default export too. Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function attachSocket(
  volume: string,
  address: SocketAddress,
  device: native.BlockDevice,
  startNbdServer: typeof native.startNbdServer,
  clock: Clock,
  log: Log,
): Promise<Attachment> {
  const description = `Afterimage protected volume ${volume}`;
  const server = await startNbdServer({
    unix: 'unix' in address ? address.unix : null,
    tcp: 'tcp' in address ? address.tcp : null,
    exports: [volume, ''].map((name) => ({ name, description, device, readOnly: false })),
  });
  return {
    device: server.address,
    async detach(end) {
      const clients = (): Promise<string | null> =>
        Promise.resolve(server.connections === 0 ? null : `${server.connections} NBD connections`);
      await untilUnused(volume, clients, clock, log, end);
      await server.stop();
    },
  };
}
