/**
 * One protected volume: its backing, which nobody else may write to, and above it the captured device that a front end
 * serves to the host.
 */
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { openBacking } from './backing.js';
import { BackingErrors } from './backing_errors.js';
import { backingFingerprint, evidenceOf } from './backing_fingerprint.js';
import { endAll } from './endings.js';
import { DIRTY_EXTENT_BYTES, openDirtyLog } from './dirty_logs.js';
import { attachLoopDevice, resumeLoopDevice } from './loop_attachment.js';
import { attachNbdDevice, nbdBackend, resumeNbdDevice } from './nbd_attachment.js';
import { attachSocket } from './socket_attachment.js';
import { VolumeUse } from './volume_use.js';
export class ProtectedVolume {
    config;
    info;
    stateDir;
    isNew;
    evidence;
    backing;
    log;
    door;
    captured = null;
    attachment = null;
    use = null;
    detaching = null;
    unserved = null;
    isKept = false;
    errors = new BackingErrors();
    constructor(config, info, stateDir, 
    /** Whether it was never protected before. */
    isNew, 
    /** Whether the backing is as the last clean stop left it. */
    evidence, backing, 
    /** What of it is in doubt. */
    log, door) {
        this.config = config;
        this.info = info;
        this.stateDir = stateDir;
        this.isNew = isNew;
        this.evidence = evidence;
        this.backing = backing;
        this.log = log;
        this.door = door;
    }
    /**
     * Takes the backing. `number` and `uuid` are the volume's in its member's stream; `memory` is what is remembered of
     * it, null for a new volume. Errors: as openBacking; MEMORY_UNAVAILABLE.
     */
    static async open(config, identity, memory, stateDir, door) {
        const isNew = memory === null;
        const evidence = evidenceOf(memory?.fingerprint ?? '', await backingFingerprint(config.backing));
        const backing = await openBacking(config, memory, stateDir, door.openFileDevice);
        const { size, blockSize } = backing;
        const info = { number: identity.number, uuid: identity.uuid, name: config.name, size, blockSize };
        try {
            const log = await openDirtyLog(stateDir, info, door.openDirtyLog);
            return new ProtectedVolume(config, info, stateDir, isNew, evidence, backing, log, door);
        }
        catch (thrown) {
            await backing.close();
            throw thrown;
        }
    }
    /** What a predecessor served goes on: of the same size, whatever its backing is now. Errors: as openFileDevice. */
    static async inherit({ settings }, door) {
        const { name, number, uuid, size, blockSize, backing, cache, stateDir, attachment } = settings;
        const device = await door.openFileDevice({ path: backing, cache, readOnly: false, exclusive: true });
        const config = { name, backing, cache, attach: attachOf(attachment) };
        const info = { number, uuid, name, size, blockSize };
        try {
            const log = await openDirtyLog(stateDir, info, door.openDirtyLog);
            return new ProtectedVolume(config, info, stateDir, false, 'none', device, log, door);
        }
        catch (thrown) {
            await device.close();
            throw thrown;
        }
    }
    get isUntouched() {
        return this.evidence === 'untouched';
    }
    get isCaptured() {
        return this.captured !== null;
    }
    get device() {
        if (this.captured === null)
            throw new Error(`volume ${this.config.name} is not captured yet`);
        return this.captured;
    }
    /** How a message names it. */
    get title() {
        return `volume ${this.config.name} (${this.config.backing})`;
    }
    /** Requests since the start. */
    get counters() {
        return this.captured?.counters() ?? { reads: 0n, readBytes: 0n, writes: 0n, writeBytes: 0n, errors: 0n };
    }
    /** Tells the log of requests that the backing failed. Ask again and again; `nowMs` never goes backwards. */
    tellErrors(log, nowMs) {
        this.errors.tell(this.counters.errors, this.title, log, nowMs);
    }
    /** Of its extents: what a crash now would put in doubt. */
    get doubtBytes() {
        const bytes = this.log.state().marked * BigInt(DIRTY_EXTENT_BYTES);
        return bytes < this.info.size ? bytes : this.info.size;
    }
    /** What the host uses, "" while nothing is attached. */
    get attachedAs() {
        return this.attachment?.device ?? '';
    }
    /** Who keeps it from being taken away; null: nobody, or it is not to be taken away. */
    get usedBy() {
        return this.use?.by ?? null;
    }
    /** Why production could not be let in at the last attempt; null: it is, or nobody tried. */
    get failure() {
        return this.unserved;
    }
    /** `inFlight`: a predecessor's table of writes in flight, or null. Errors: RING_LAYOUT, RING_UNAVAILABLE. */
    capture(group, inFlight = null) {
        this.captured = group.addVolume(this.info.number, this.backing, this.log, inFlight);
    }
    /** Lets production in, if it is not in already. Errors: those of the front ends. */
    async attach(custody, places, clock, log) {
        if (this.attachment !== null)
            return;
        const use = (this.use = new VolumeUse(this.config.name, clock, log));
        try {
            this.attachment = await this.attachFrontEnd(custody, places, use, log);
            this.unserved = null;
        }
        catch (thrown) {
            this.unserved = toAfterimageError(thrown);
            throw this.unserved;
        }
    }
    /**
     * Settles what a predecessor was writing, and serves production that it had let in. An NBD export is attached later, as
     * any other: its clients come back by themselves. Errors: those of resumeLoopDevice and resumeNbdDevice.
     */
    async resume({ settings, fuse, slots }, 
    /** All that the store has of it is right. */
    isKept, custody, clock, log) {
        await this.device.settleInFlight();
        const { attachment } = settings;
        if (attachment.kind === 'socket') {
            this.isKept = isKept;
            return;
        }
        const use = (this.use = new VolumeUse(this.config.name, clock, log));
        const { device, door } = this;
        const kept = this.custodyIn(custody);
        if (attachment.kind === 'nbd') {
            this.attachment = await resumeNbdDevice(attachment, device, door, use, kept);
        }
        else {
            const session = { fuse: fuse, slots };
            this.attachment = await resumeLoopDevice(attachment, session, device, door, use, kept, log);
        }
    }
    /**
     * Ends production's way in, once nobody uses it or `end` aborts. After an error it can be asked for again. Errors: those
     * of the front ends.
     */
    async detach(end) {
        this.detaching ??= this.detachFrontEnd(end).finally(() => (this.detaching = null));
        await this.detaching;
    }
    /** Makes what was written durable on the backing. Errors: IO_ERROR. */
    async flush() {
        try {
            await this.captured?.flush();
        }
        catch (thrown) {
            const { code, message } = toAfterimageError(thrown);
            throw new AfterimageError(code, `${this.title} at its flush: ${message}`, { cause: thrown });
        }
    }
    /** Nothing is left in doubt, if all is at the receiver. Production writes no more. Errors: IO_ERROR. */
    async cleanUp() {
        await this.captured?.cleanUp();
    }
    /** What is to be remembered of it; `clean`: nothing but the agent has written to it, and the agent writes no more. */
    async remember(clean) {
        const { number, uuid, size } = this.info;
        const { backing } = this.config;
        return { number, uuid, size, backing, fingerprint: clean ? await backingFingerprint(backing) : '' };
    }
    /** Gives the backing back. Nothing is attached any more. */
    async close() {
        const { captured } = this;
        this.captured = null; // a status that is asked for meanwhile finds it gone
        await endAll(() => (captured === null ? [] : [captured.close()]), () => [this.backing.close()]);
    }
    custodyIn(custody) {
        const { backing, cache } = this.config;
        return custody.volume({ ...this.info, backing, cache, stateDir: this.stateDir }, this.device);
    }
    attachFrontEnd(custody, places, use, log) {
        const { device, door } = this;
        const { name, attach } = this.config;
        const kept = this.custodyIn(custody);
        if (attach.kind === 'socket') {
            // While the store forgets it and gets it again, a process that dies would leave nothing of it.
            const still = this.isKept ? { ...kept, keep: () => Promise.resolve() } : kept;
            this.isKept = false; // an attempt that fails has it forgotten
            return attachSocket(name, attach.address, device, door.startNbdServer, use, still);
        }
        const link = path.join(places.linkDir, custody.name, name);
        if (attach.kind === 'nbd')
            return attachNbdDevice(link, nbdBackend(this.info.uuid), device, door, use, kept, log);
        const loopPlaces = { mountPoint: path.join(places.runDir, 'fuse', custody.name, name), link };
        return attachLoopDevice(loopPlaces, attach.threads, device, door, use, kept, log);
    }
    async detachFrontEnd(end) {
        await this.attachment?.detach(end);
        this.attachment = null;
    }
}
/** As the configuration would have it. */
function attachOf(attachment) {
    if (attachment.kind === 'loop')
        return { kind: 'loop', threads: attachment.threads };
    return attachment.kind === 'nbd' ? { kind: 'nbd' } : { kind: 'socket', address: attachment.address };
}
//# sourceMappingURL=volume.js.map