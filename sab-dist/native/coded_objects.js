/**
 * The addon's objects with their errors coded: one class for each of index.ts, which says what the methods do. They keep
 * no state of their own, and hand the addon its own devices back.
 */
import { coded, codedSync } from './coded.js';
export class CodedDevice {
    addon;
    size;
    blockSize;
    readOnly;
    constructor(addon) {
        this.addon = addon;
        this.size = addon.size;
        this.blockSize = addon.blockSize;
        this.readOnly = addon.readOnly;
    }
    read(offset, into) {
        return coded(() => this.addon.read(offset, into));
    }
    write(offset, from) {
        return coded(() => this.addon.write(offset, from));
    }
    zero(offset, length) {
        return coded(() => this.addon.zero(offset, length));
    }
    flush() {
        return coded(() => this.addon.flush());
    }
    close() {
        return coded(() => this.addon.close());
    }
}
/** The addon's own device: it refuses what is not one. */
export function addonDevice(device) {
    return device instanceof CodedDevice ? device.addon : device;
}
class CodedVolume extends CodedDevice {
    republish(offset, length) {
        return coded(() => this.addon.republish(offset, length));
    }
    fence() {
        return coded(() => this.addon.fence());
    }
    settleInFlight() {
        return coded(() => this.addon.settleInFlight());
    }
    inFlightDescriptor() {
        return codedSync(() => this.addon.inFlightDescriptor());
    }
    cleanUp() {
        return coded(() => this.addon.cleanUp());
    }
    counters() {
        return codedSync(() => this.addon.counters());
    }
}
export class CodedDirtyLog {
    addon;
    constructor(addon) {
        this.addon = addon;
    }
    state() {
        return codedSync(() => this.addon.state());
    }
    extents() {
        return coded(() => this.addon.extents());
    }
    isMarked(offset) {
        return codedSync(() => this.addon.isMarked(offset));
    }
    setSynced(generation) {
        codedSync(() => this.addon.setSynced(generation));
    }
    markAll() {
        return coded(() => this.addon.markAll());
    }
}
/** The addon's own log: it refuses what is not one. */
function addonLog(log) {
    return log instanceof CodedDirtyLog ? log.addon : log;
}
export class CodedCaptureGroup {
    addon;
    constructor(addon) {
        this.addon = addon;
    }
    addVolume(number, backing, log, inFlight) {
        return codedSync(() => new CodedVolume(this.addon.addVolume(number, addonDevice(backing), addonLog(log), inFlight)));
    }
    beginGeneration(start) {
        codedSync(() => this.addon.beginGeneration(start));
    }
    closeStream() {
        codedSync(() => this.addon.closeStream());
    }
    abandonStream() {
        codedSync(() => this.addon.abandonStream());
    }
    resumeGeneration(epoch, lsnCeiling) {
        codedSync(() => this.addon.resumeGeneration(epoch, lsnCeiling));
    }
    ringDescriptor() {
        return codedSync(() => this.addon.ringDescriptor());
    }
    raiseCeiling(lsn) {
        codedSync(() => this.addon.raiseCeiling(lsn));
    }
    startShipping(durableLsn, link) {
        codedSync(() => this.addon.startShipping(durableLsn, link));
    }
    stopShipping() {
        codedSync(() => this.addon.stopShipping());
    }
    async next() {
        const delivery = await coded(() => this.addon.next());
        if (delivery?.kind === 'frame') {
            const release = delivery.release;
            delivery.release = () => codedSync(release);
        }
        return delivery;
    }
    release(durableLsn) {
        codedSync(() => this.addon.release(durableLsn));
    }
    position() {
        return codedSync(() => this.addon.position());
    }
    stats() {
        return codedSync(() => this.addon.stats());
    }
    close() {
        return coded(() => this.addon.close());
    }
}
export class CodedNbdServer {
    addon;
    address;
    constructor(addon) {
        this.addon = addon;
        this.address = addon.address;
    }
    get connections() {
        return this.addon.connections;
    }
    stop() {
        return coded(() => this.addon.stop());
    }
}
export class CodedNbdDevice {
    addon;
    name;
    constructor(addon) {
        this.addon = addon;
        this.name = addon.name;
    }
    stop() {
        return coded(() => this.addon.stop());
    }
}
export class CodedFuseServer {
    addon;
    constructor(addon) {
        this.addon = addon;
    }
    legacy() {
        return codedSync(() => this.addon.legacy());
    }
    stop() {
        return coded(() => this.addon.stop());
    }
}
export class CodedJournalWriter {
    addon;
    constructor(addon) {
        this.addon = addon;
    }
    append(frame) {
        return coded(() => this.addon.append(frame));
    }
    resume(epoch) {
        codedSync(() => this.addon.resume(epoch));
    }
    beginGeneration(epoch, generation, firstLsn, volumes) {
        return coded(() => this.addon.beginGeneration(epoch, generation, firstLsn, volumes));
    }
    position() {
        return codedSync(() => this.addon.position());
    }
    close() {
        return coded(() => this.addon.close());
    }
}
export class CodedRollForward {
    addon;
    constructor(addon) {
        this.addon = addon;
    }
    advance(bytesMax) {
        return coded(() => this.addon.advance(bytesMax));
    }
    sync() {
        return coded(() => this.addon.sync());
    }
    badOffsets() {
        return this.addon.badOffsets();
    }
    close() {
        return coded(() => this.addon.close());
    }
}
//# sourceMappingURL=coded_objects.js.map