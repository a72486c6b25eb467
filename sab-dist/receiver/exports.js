/** Exports: recovery points opened for use as block devices, without copying anything, any number at once. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { nbdListen, serveDevices, serveNbd } from './serving.js';
import { named } from '../service/system_errors.js';
/** Exports open at once: each holds threads and descriptors. */
const EXPORTS_MAX = 64;
/** What is read of every volume to say how long opening took. */
const FIRST_READ_BYTES = 4096;
export class Exports {
    parts;
    open = new Map();
    opening = new Set();
    isStopping = false;
    constructor(parts) {
        this.parts = parts;
    }
    get count() {
        return this.open.size;
    }
    /**
     * Opens one, unless `signal` aborts before it is open: nobody would know of it. Errors: those of Points, LISTEN_*,
     * FUSE_*, LOOP_*, SCRATCH_UNAVAILABLE, USAGE, ADDRESS_NOT_LOOPBACK, EXPORT_LIMIT, INTERRUPTED.
     */
    async start(request, signal) {
        if (this.isStopping)
            throw new AfterimageError('INTERRUPTED', 'the receiver stops');
        if (this.open.size + this.opening.size >= EXPORTS_MAX) {
            throw new AfterimageError('EXPORT_LIMIT', `${EXPORTS_MAX} exports are open`);
        }
        const opening = this.startOne(request);
        this.opening.add(opening);
        try {
            const info = await opening;
            if (!signal.aborted)
                return info;
            await this.stop(info.id);
            throw new AfterimageError('INTERRUPTED', 'the caller has gone');
        }
        finally {
            this.opening.delete(opening);
        }
    }
    list() {
        return [...this.open.values()].map(({ info }) => info);
    }
    /** Errors: EXPORT_UNKNOWN, EXPORT_BUSY. */
    async stop(id) {
        const found = this.open.get(id);
        if (found === undefined)
            throw new AfterimageError('EXPORT_UNKNOWN', `there is no export ${id}`);
        // Whoever asks meanwhile gets the same answer.
        found.closing ??= this.close(found).finally(() => (found.closing = null));
        await found.closing;
    }
    /** Opens no more, and closes what can be closed. What is in use is named in the log and ends with the process. */
    async stopAll() {
        this.isStopping = true;
        await Promise.allSettled(this.opening);
        for (const id of [...this.open.keys()]) {
            try {
                await this.stop(id);
            }
            catch (thrown) {
                this.parts.log.error({ err: toAfterimageError(thrown), export: id }, 'an export could not be closed');
            }
        }
    }
    async close({ info: { id }, serving, devices, release }) {
        await serving.stop();
        this.open.delete(id);
        for (const device of devices)
            await device.close();
        release();
        this.parts.log.info({ export: id }, 'export closed');
    }
    async startOne(request) {
        const { points, elapsedUs, newId, runDirectory } = this.parts;
        const beginUs = elapsedUs();
        const id = newId();
        const listen = request.device
            ? null
            : nbdListen(request.socket, request.tcp, path.join(runDirectory, `export-${id}.sock`));
        const point = await points.resolve(request.group, request.point, request.force);
        const { volumes, release } = points.volumes(point, request.volumes, `export ${id}`);
        const devices = [];
        try {
            const served = [];
            for (const each of volumes) {
                served.push({ name: each.volume.name, device: await this.openVolume(each, request, devices) });
            }
            await named(mkdir(runDirectory, { recursive: true, mode: 0o700 }), runDirectory);
            const serving = listen === null
                ? await serveDevices(this.parts.native, path.join(runDirectory, `export-${id}`), served)
                : await serveNbd(this.parts.native, listen, describe(point), served);
            const openedInUs = BigInt(Math.round(elapsedUs() - beginUs));
            const info = this.describeExport(id, request, point, serving, openedInUs);
            this.open.set(id, { info, serving, devices, release, closing: null });
            this.parts.log.info({ export: id, group: request.group, lsn: info.lsn, openedInUs }, 'export opened');
            return info;
        }
        catch (thrown) {
            for (const device of devices)
                await device.close();
            release();
            throw thrown;
        }
    }
    /** Opens one volume and reads its first bytes; what is to be closed later goes to `devices`, uppermost first. */
    async openVolume(point, { writable, force }, devices) {
        const { openOverlay } = this.parts.native;
        let device = await point.open();
        devices.unshift(device);
        if (writable) {
            device = await openOverlay(device, this.parts.scratchDirectory);
            devices.unshift(device);
        }
        const bytes = device.size < BigInt(FIRST_READ_BYTES) ? Number(device.size) : FIRST_READ_BYTES;
        const read = device.read(0n, Buffer.allocUnsafe(bytes));
        // Whoever takes damage as it is may find the first block damaged, and wants the others.
        await (force ? read.catch(() => undefined) : read);
        return device;
    }
    describeExport(id, { group, writable }, { positions: [position], grade }, { volumes }, openedInUs) {
        const { lsn, timeNs } = position;
        return {
            id,
            group,
            lsn,
            timeNs,
            grade,
            writable,
            volumes,
            openedInUs,
            createdNs: this.parts.nowNs(),
        };
    }
}
function describe({ group, positions: [{ lsn, timeNs }] }) {
    return `${group.name} at LSN ${lsn}, ${formatTime(timeNs)}`;
}
//# sourceMappingURL=exports.js.map