/**
 * The only door between TypeScript and the C++ addon. Every type is explicit, every property is required, absence is
 * null. Byte counts, offsets, LSNs and times (nanoseconds since 1970, CLOCK_REALTIME) are bigint; lengths of one
 * request are numbers. Errors, also those of the objects returned, are AfterimageError with a code of the registry and
 * the caller's stack; what returns a promise does not throw. INTERNAL: the call itself was wrong, an argument of another
 * type, or an object that is closed.
 *
 * Whoever opens something closes it; nothing depends on the garbage collector. Promises settle on the main thread.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { coded, codedSync } from './coded.js';
import { addonDevice, CodedCaptureGroup, CodedDevice, CodedDirtyLog, CodedFuseServer, CodedJournalWriter, CodedNbdDevice, CodedNbdServer, CodedRollForward, } from './coded_objects.js';
/** Where the native parts are built. */
function buildDirectory() {
    // From the sources and from dist/ alike: they lie at the root of the package.
    let directory = path.dirname(fileURLToPath(import.meta.url));
    while (!existsSync(path.join(directory, 'binding.gyp'))) {
        const parent = path.dirname(directory);
        if (parent === directory)
            throw new Error('the root of the package was not found');
        directory = parent;
    }
    return path.join(directory, 'build/Release');
}
const addonPath = process.env['AFTERIMAGE_ADDON'] ?? path.join(buildDirectory(), 'afterimage.node');
const addon = createRequire(import.meta.url)(addonPath);
/** The program that runs an agent again when it has died, and keeps its descriptors meanwhile (native/supervisor). */
export const supervisorPath = path.join(buildDirectory(), 'afterimage-supervisor');
/** Errors: BACKING_MISSING, BACKING_BUSY, BACKING_INVALID, PERMISSION_DENIED, IO_ERROR. */
export const openFileDevice = (options) => coded(async () => new CodedDevice(await addon.openFileDevice(options)));
/** A writable, copy-on-write view of `lower`; gone when closed. Leaves a reserve of its disk. Errors: SCRATCH_UNAVAILABLE. */
export const openOverlay = (lower, scratchDirectory) => coded(async () => new CodedDevice(await addon.openOverlay(addonDevice(lower), scratchDirectory)));
/**
 * One volume as it was at one LSN. Errors: POINT_UNKNOWN, POINT_TOO_LONG (more than 65 536 tiles), SEGMENT_CORRUPT,
 * BASE_MISSING, FILE_LIMIT, IO_ERROR.
 */
export const openPoint = (options) => coded(async () => new CodedDevice(await addon.openPoint(options)));
/**
 * The base of `options` is going to include its tiles, all of them whole; `options.lsn` is the last of theirs. Errors: as
 * openPoint, BACKING_BUSY, PERMISSION_DENIED, JOURNAL_FULL, JOURNAL_IO.
 */
export const openRollForward = (options) => coded(async () => new CodedRollForward(await addon.openRollForward(options)));
/** Copies at most 8 MiB natively; with skipZero, zero blocks of 4 KiB are not written. Errors: IO_ERROR, of either side. */
export const copyRange = (source, target, offset, length, skipZero) => coded(() => addon.copyRange(addonDevice(source), addonDevice(target), offset, length, skipZero));
/** Errors: RING_UNAVAILABLE. */
export const createCaptureGroup = (options) => codedSync(() => new CodedCaptureGroup(addon.createCaptureGroup(options)));
/**
 * Goes on with the ring of a process that has ended, and captures at once if that did; ships from resumeGeneration() on.
 * The ring's own size, time and era count. Errors: RING_LAYOUT, RING_UNAVAILABLE.
 */
export const adoptCaptureGroup = (options, ring) => codedSync(() => new CodedCaptureGroup(addon.adoptCaptureGroup(options, ring)));
/** There always is one, perhaps a void one. Errors: MEMORY_UNAVAILABLE. */
export const openDirtyLog = (options) => coded(async () => new CodedDirtyLog(await addon.openDirtyLog(options)));
/** Errors: LISTEN_BUSY, LISTEN_FAILED. */
export const startNbdServer = (options) => coded(async () => {
    const exports = options.exports.map((one) => ({ ...one, device: addonDevice(one.device) }));
    return new CodedNbdServer(await addon.startNbdServer({ ...options, exports }));
});
/** Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE. */
export const startFuseServer = (options) => coded(async () => {
    const device = addonDevice(options.device);
    return new CodedFuseServer(await addon.startFuseServer({ ...options, device }));
});
/**
 * Goes on where the server of a process that has ended was: what that had read is finished, and then what the kernel sends
 * again. The descriptors stay the caller's. Errors: SLOTS_LAYOUT, SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE, FUSE_UNAVAILABLE.
 */
export const resumeFuseServer = (options, legacy) => coded(async () => {
    const device = addonDevice(options.device);
    return new CodedFuseServer(await addon.resumeFuseServer({ ...options, device }, legacy));
});
/** Resolves with "/dev/loopN". Errors: LOOP_UNAVAILABLE, LOOP_ATTACH. */
export const attachLoop = (file, blockSize, readOnly) => coded(() => addon.attachLoop(file, blockSize, readOnly));
/** Whether the loop device is attached to that file. Errors: LOOP_DETACH when that cannot be told. */
export const isLoopOver = (device, file) => coded(() => addon.isLoopOver(device, file));
/** Errors: LOOP_BUSY, LOOP_DETACH. */
export const detachLoop = (device) => coded(() => addon.detachLoop(device));
/**
 * Attaches the first free device of the nbd driver, of the size and block size of `device`. `backend`, up to 128 bytes, says
 * whose it is (/sys/block/nbdN/backend). Errors: NBD_UNAVAILABLE, NBD_ATTACH, MEMORY_UNAVAILABLE.
 */
export const attachNbd = (device, backend) => coded(async () => new CodedNbdDevice(await addon.attachNbd(addonDevice(device), backend)));
/**
 * Serves a device that a process attached which has ended: what that had read and not answered comes again. Errors:
 * NBD_UNAVAILABLE, NBD_GONE, MEMORY_UNAVAILABLE.
 */
export const resumeNbd = (device, backend, name) => coded(async () => new CodedNbdDevice(await addon.resumeNbd(addonDevice(device), backend, name)));
/**
 * Detaches a device that is served, if it is still that of `backend`; `isForced`: also from whoever uses it, who gets I/O
 * errors. Errors: NBD_UNAVAILABLE, NBD_BUSY, NBD_DETACH.
 */
export const detachNbd = (name, backend, isForced) => coded(() => addon.detachNbd(name, backend, isForced));
/** Exempts the process from what could stall or kill it on the I/O path; returns what was not permitted. */
export const protectIoProcess = () => codedSync(() => addon.protectIoProcess());
/** Whether a service manager listens ($NOTIFY_SOCKET), which may keep descriptors for a successor. */
export const hasServiceManager = () => codedSync(() => addon.hasServiceManager());
/** Assignments of sd_notify(3), one a line: "READY=1". Errors: NOTIFY_FAILED. */
export const tellServiceManager = (assignments) => codedSync(() => addon.tellServiceManager(assignments));
/** Resolves when the service manager has carried out what it was told before. Errors: NOTIFY_FAILED. */
export const awaitServiceManager = (patienceMs) => coded(() => addon.awaitServiceManager(patienceMs));
/** Gives a copy to the descriptor store. Errors: NOTIFY_FAILED. */
export const storeDescriptor = (name, descriptor) => codedSync(() => addon.storeDescriptor(name, descriptor));
/** The store lets go of all descriptors of that name. Errors: NOTIFY_FAILED. */
export const forgetDescriptor = (name) => codedSync(() => addon.forgetDescriptor(name));
/** What a predecessor left in the descriptor store, at the first call. */
export const takeStoredDescriptors = () => codedSync(() => addon.takeStoredDescriptors());
/** A descriptor of memory that holds `bytes` for good. Errors: MEMORY_UNAVAILABLE. */
export const makeSealedMemory = (name, bytes) => codedSync(() => addon.makeSealedMemory(name, bytes));
/** Runs another program in the place of this one. Errors: SUPERVISOR_UNAVAILABLE. */
export const becomeProgram = (programPath, args) => codedSync(() => addon.becomeProgram(programPath, args));
/** Errors: JOURNAL_IO, JOURNAL_FULL. */
export const openJournal = (options) => coded(async () => new CodedJournalWriter(await addon.openJournal(options)));
/** Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR. */
export const scanSegment = (segmentPath, checkPayload) => coded(() => addon.scanSegment(segmentPath, checkPayload));
export const buildRun = (segment, runPath) => coded(() => addon.buildRun(segment, runPath));
/**
 * Whether the file is the whole run of exactly this segment; false for a damaged or stale one, and where there is none.
 * Errors: IO_ERROR.
 */
export const isRunOf = (segment, runPath) => coded(() => addon.isRunOf(segment, runPath));
/**
 * Why the run must not be used for this segment, "" where it may: all of it is read, and compared with what the segment
 * itself says. Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR.
 */
export const runFault = (segment, runPath) => coded(() => addon.runFault(segment, runPath));
/** Bytes of a base that have one checksum. */
export const BASE_BLOCK_BYTES = 64n * 1024n;
/** With so many damaged blocks there may be more that are not told. */
export const BAD_OFFSETS_MAX = 1024;
/**
 * A base image for writing, with its checksums (native/device/base_writer.h). Errors: as openFileDevice, JOURNAL_FULL,
 * JOURNAL_IO.
 */
export const openBase = (path) => coded(async () => new CodedDevice(await addon.openBase(path)));
/** Gives every block of a base that has no checksum the one of what it holds: all of it was written. Errors: as openBase. */
export const completeBase = (path) => coded(() => addon.completeBase(path));
/**
 * What a base held from `offset` on is gone: makes the file, or makes it `size` bytes long, and marks what has no checksum
 * there as damaged, so that it is never shown. Errors: JOURNAL_FULL, JOURNAL_IO.
 */
export const loseBase = (path, offset, size) => coded(() => addon.loseBase(path, offset, size));
/** Verifies blocks of a base as the disk gives them. Errors: BASE_MISSING, FILE_LIMIT, IO_ERROR. */
export const scrubBase = (path, volumeBytes, offset, length) => coded(() => addon.scrubBase(path, volumeBytes, offset, length));
/** Offsets of blocks of its base that reads of a point have found damaged so far. */
export const badBaseOffsets = (point) => codedSync(() => addon.badBaseOffsets(addonDevice(point)));
/** The last LSN of the segment whose time is ≤ timeNs, or firstLsn − 1n. */
export const lsnAtTime = (segment, timeNs) => coded(() => addon.lsnAtTime(segment, timeNs));
/** Errors: POINT_UNKNOWN. */
export const timeAtLsn = (segment, lsn) => coded(() => addon.timeAtLsn(segment, lsn));
/** Takes an exclusive lock on a file (created 0600), held until the process ends; null when another process has it. */
export const lockFile = (lockPath) => codedSync(() => addon.lockFile(lockPath));
export const crc32c = (bytes) => codedSync(() => addon.crc32c(bytes));
export const isZero = (bytes) => codedSync(() => addon.isZero(bytes));
/** An LZ4 block, or null when it would not save an eighth. */
export const compress = (bytes) => codedSync(() => addon.compress(bytes));
/** Errors: MESSAGE_INVALID when the block does not decompress to exactly rawBytes. */
export const decompress = (bytes, rawBytes) => codedSync(() => addon.decompress(bytes, rawBytes));
//# sourceMappingURL=index.js.map