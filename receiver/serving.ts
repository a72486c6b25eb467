/** How an export's volumes are served: by an NBD server, or each as a loop device over a FUSE file. */
import { mkdir, realpath, rmdir } from 'node:fs/promises';
import path from 'node:path';
import type { BlockDevice } from '../native/index.js';
import type * as native from '../native/index.js';
import type { ExportVolume } from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { detachFrom, isClaimed, loopDevicesOver, SERVED_FILE_NAME } from '../service/loop_devices.js';
import { formatAddress, parseLoopback } from '../service/settings.js';
import { named } from '../service/system_errors.js';

/** A volume as it is exported. */
export interface ServedVolume {
  name: string;
  device: BlockDevice;
}
export interface Serving {
  readonly volumes: ExportVolume[];
  /** Errors: EXPORT_BUSY when a device is in use; then everything else still serves, and stop() can be called again. */
  stop(): Promise<void>;
}
export type ServingNative = Pick<
  typeof native,
  'startNbdServer' | 'startFuseServer' | 'attachLoop' | 'detachLoop'
>;
export type NbdListen = { unix: string } | { tcp: { host: string; port: number } };

/** Threads of one exported device. */
const FUSE_THREADS = 4;

/** Where an NBD export listens. Errors: USAGE, ADDRESS_NOT_LOOPBACK. */
export function nbdListen(socket: string, tcp: string, defaultSocket: string): NbdListen {
  if (tcp === '') {
    if (socket !== '' && !path.isAbsolute(socket)) {
      throw new AfterimageError('USAGE', `${socket} is not an absolute path`);
    }
    return { unix: socket === '' ? defaultSocket : socket };
  }
  if (socket !== '') throw new AfterimageError('USAGE', 'an export listens on a socket or on TCP, not both');
  const address = parseLoopback(tcp, 0);
  if (address === null) throw new AfterimageError('USAGE', `${tcp} is not HOST:PORT`);
  if (address === 'foreign')
    throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${tcp} is not a loopback address`);
  return { tcp: address };
}

/** Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function serveNbd(
  parts: ServingNative,
  listen: NbdListen,
  description: string,
  volumes: readonly ServedVolume[],
): Promise<Serving> {
  const server = await parts.startNbdServer({
    unix: 'unix' in listen ? listen.unix : null,
    tcp: 'tcp' in listen ? listen.tcp : null,
    exports: volumes.map(({ name, device }) => ({ name, description, device, readOnly: device.readOnly })),
  });
  return {
    volumes: volumes.map(({ name, device }) => ({
      name,
      size: device.size,
      uri: nbdUri(server.address, listen, name),
      device: '',
    })),
    stop: () => server.stop(),
  };
}

/** As the NBD project's doc/uri.md has it. */
function nbdUri(address: string, listen: NbdListen, name: string): string {
  const path = encodeURIComponent(name);
  if ('unix' in listen) return `nbd+unix:///${path}?socket=${encodeURIComponent(listen.unix)}`;
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  return `nbd://${formatAddress({ host: listen.tcp.host, port })}/${path}`;
}

/** Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, LOOP_UNAVAILABLE, LOOP_ATTACH. */
export async function serveDevices(
  parts: ServingNative,
  directory: string,
  volumes: readonly ServedVolume[],
): Promise<Serving> {
  await named(mkdir(directory, { recursive: true, mode: 0o700 }), directory);
  const serving = new DeviceServing(parts, directory);
  try {
    for (const volume of volumes) await serving.add(volume);
    return serving;
  } catch (thrown) {
    // Why it could not be served is the better answer than why it could not be cleared away.
    await serving.stop().catch(() => undefined);
    throw thrown;
  }
}

interface Attached {
  name: string;
  mountPoint: string;
  /** The served one, its path without links: what the kernel says is behind the loop device. */
  file: string;
  /** Null while there is none to stop. */
  stopServer: (() => Promise<void>) | null;
  /** "/dev/loopN"; null once it is detached. */
  loop: string | null;
}

class DeviceServing implements Serving {
  readonly volumes: ExportVolume[] = [];
  private readonly attached: Attached[] = [];

  constructor(
    private readonly parts: ServingNative,
    private readonly directory: string,
  ) {}

  async add({ name, device }: ServedVolume): Promise<void> {
    const { parts } = this;
    const mountPoint = path.join(this.directory, name);
    await named(mkdir(mountPoint, { recursive: true, mode: 0o700 }), mountPoint);
    const file = path.join(await named(realpath(mountPoint), mountPoint), SERVED_FILE_NAME);
    const attached: Attached = { name, mountPoint, file, stopServer: null, loop: null };
    this.attached.push(attached);
    const { readOnly } = device;
    const server = await parts.startFuseServer({
      mountPoint,
      fileName: SERVED_FILE_NAME,
      device,
      readOnly,
      threads: FUSE_THREADS,
    });
    attached.stopServer = () => server.stop();
    attached.loop = await parts.attachLoop(file, device.blockSize, readOnly);
    this.volumes.push({ name, size: device.size, uri: '', device: attached.loop });
  }

  async stop(): Promise<void> {
    // All are asked before one is taken away: a volume in use keeps the others of its export.
    for (const { name, file, loop } of this.attached) {
      if (loop !== null && (await loopDevicesOver(file)).includes(loop) && (await isClaimed(loop))) {
        throw inUse(loop, name);
      }
    }
    for (const attached of this.attached) await this.detach(attached);
    for (let attached = this.attached.pop(); attached !== undefined; attached = this.attached.pop()) {
      await attached.stopServer?.();
      await named(rmdir(attached.mountPoint), attached.mountPoint);
    }
    await named(rmdir(this.directory), this.directory);
  }

  private async detach(attached: Attached): Promise<void> {
    const { name, file, loop } = attached;
    if (loop === null) return;
    try {
      await detachFrom(file, loop, this.parts.detachLoop);
      attached.loop = null;
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      throw error.code === 'LOOP_BUSY' ? inUse(loop, name, error) : error;
    }
  }
}

function inUse(loop: string, name: string, cause?: AfterimageError): AfterimageError {
  return new AfterimageError('EXPORT_BUSY', `${loop} (${name}) is in use`, { cause });
}
