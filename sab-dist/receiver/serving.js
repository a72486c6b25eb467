/** How an export's volumes are served: by an NBD server, or each as a loop device over a FUSE file. */
import { mkdir, realpath, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { detachFrom, isClaimed, loopDevicesOver, SERVED_FILE_NAME } from '../service/loop_devices.js';
import { formatAddress, parseLoopback } from '../service/settings.js';
import { named } from '../service/system_errors.js';
/** Threads of one exported device. */
const FUSE_THREADS = 4;
/** Where an NBD export listens. Errors: USAGE, ADDRESS_NOT_LOOPBACK. */
export function nbdListen(socket, tcp, defaultSocket) {
    if (tcp === '') {
        if (socket !== '' && !path.isAbsolute(socket)) {
            throw new AfterimageError('USAGE', `${socket} is not an absolute path`);
        }
        return { unix: socket === '' ? defaultSocket : socket };
    }
    if (socket !== '')
        throw new AfterimageError('USAGE', 'an export listens on a socket or on TCP, not both');
    const address = parseLoopback(tcp, 0);
    if (address === null)
        throw new AfterimageError('USAGE', `${tcp} is not HOST:PORT`);
    if (address === 'foreign')
        throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${tcp} is not a loopback address`);
    return { tcp: address };
}
/** Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function serveNbd(parts, listen, description, volumes) {
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
function nbdUri(address, listen, name) {
    const path = encodeURIComponent(name);
    if ('unix' in listen)
        return `nbd+unix:///${path}?socket=${encodeURIComponent(listen.unix)}`;
    const port = Number(address.slice(address.lastIndexOf(':') + 1));
    return `nbd://${formatAddress({ host: listen.tcp.host, port })}/${path}`;
}
/** Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, LOOP_UNAVAILABLE, LOOP_ATTACH. */
export async function serveDevices(parts, directory, volumes) {
    await named(mkdir(directory, { recursive: true, mode: 0o700 }), directory);
    const serving = new DeviceServing(parts, directory);
    try {
        for (const volume of volumes)
            await serving.add(volume);
        return serving;
    }
    catch (thrown) {
        // Why it could not be served is the better answer than why it could not be cleared away.
        await serving.stop().catch(() => undefined);
        throw thrown;
    }
}
class DeviceServing {
    parts;
    directory;
    volumes = [];
    attached = [];
    constructor(parts, directory) {
        this.parts = parts;
        this.directory = directory;
    }
    async add({ name, device }) {
        const { parts } = this;
        const mountPoint = path.join(this.directory, name);
        await named(mkdir(mountPoint, { recursive: true, mode: 0o700 }), mountPoint);
        const file = path.join(await named(realpath(mountPoint), mountPoint), SERVED_FILE_NAME);
        const attached = { name, mountPoint, file, stopServer: null, loop: null };
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
    async stop() {
        // All are asked before one is taken away: a volume in use keeps the others of its export.
        for (const { name, file, loop } of this.attached) {
            if (loop !== null && (await loopDevicesOver(file)).includes(loop) && (await isClaimed(loop))) {
                throw inUse(loop, name);
            }
        }
        for (const attached of this.attached)
            await this.detach(attached);
        for (let attached = this.attached.pop(); attached !== undefined; attached = this.attached.pop()) {
            await attached.stopServer?.();
            await named(rmdir(attached.mountPoint), attached.mountPoint);
        }
        await named(rmdir(this.directory), this.directory);
    }
    async detach(attached) {
        const { name, file, loop } = attached;
        if (loop === null)
            return;
        try {
            await detachFrom(file, loop, this.parts.detachLoop);
            attached.loop = null;
        }
        catch (thrown) {
            const error = toAfterimageError(thrown);
            throw error.code === 'LOOP_BUSY' ? inUse(loop, name, error) : error;
        }
    }
}
function inUse(loop, name, cause) {
    return new AfterimageError('EXPORT_BUSY', `${loop} (${name}) is in use`, { cause });
}
//# sourceMappingURL=serving.js.map