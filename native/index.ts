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
import {
  addonDevice,
  CodedCaptureGroup,
  CodedDevice,
  CodedFuseServer,
  CodedJournalWriter,
  CodedNbdServer,
} from './coded_objects.js';

/** A block device (native/device/block_device.h). I/O runs on worker threads. */
export interface BlockDevice {
  readonly size: bigint;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Fills `into` from `offset`. The buffer must not be touched until the promise settles. Errors: IO_ERROR. */
  read(offset: bigint, into: Buffer): Promise<void>;
  write(offset: bigint, from: Buffer): Promise<void>;
  zero(offset: bigint, length: bigint): Promise<void>;
  flush(): Promise<void>;
  /** Releases the device. Front ends that still serve it keep it alive until they stop. */
  close(): Promise<void>;
}

export interface FileDeviceOptions {
  path: string;
  cache: 'buffered' | 'direct';
  readOnly: boolean;
  exclusive: boolean;
}

// --- capture ---

export interface CaptureGroupOptions {
  group: Buffer;
  member: Buffer;
  ringBytes: bigint;
  lingerUs: number;
  lastTimeNs: bigint;
  era: number;
}
export interface GenerationStart {
  epoch: bigint;
  generation: bigint;
  firstLsn: bigint;
  lsnCeiling: bigint;
}
/** A sealed frame, lent from a fixed pool until release() is called, once. */
export interface CapturedFrame {
  kind: 'frame';
  /** The frame with `headroom` free bytes before it. */
  buffer: Buffer;
  headroom: number;
  generation: bigint;
  firstLsn: bigint;
  lastLsn: bigint;
  firstTimeNs: bigint;
  lastTimeNs: bigint;
  records: number;
  rawBytes: number;
  release: () => void;
}
/** The generation ended: all up to lastLsn was delivered. */
export interface CapturedEnd {
  kind: 'end';
  generation: bigint;
  lastLsn: bigint;
  reason: string;
}
export interface CaptureStats {
  streaming: boolean;
  generation: bigint;
  capturedLsn: bigint;
  capturedTimeNs: bigint;
  releasedLsn: bigint;
  oldestTimeNs: bigint;
  ringUsedBytes: bigint;
  ringBytes: bigint;
  records: bigint;
  rawBytes: bigint;
  untrackedRecords: bigint;
  era: number;
}
export interface StreamPosition {
  lsn: bigint;
  timeNs: bigint;
}
export interface DeviceCounters {
  reads: bigint;
  readBytes: bigint;
  writes: bigint;
  writeBytes: bigint;
  errors: bigint;
}
/** A protected volume: reads and writes through it are captured. */
export interface CapturedVolume extends BlockDevice {
  /**
   * Journals what the backing holds there (at most 1 MiB). Resolves with the record's LSN, 0n when the stream is
   * closed, or null when the ring is more than half full: try again later.
   */
  republish(offset: bigint, length: number): Promise<bigint | null>;
  /** An LSN not before any write that was in flight when the call began. */
  fence(): Promise<bigint>;
  counters(): DeviceCounters;
}
/** native/capture/capture_group.h */
export interface CaptureGroup {
  addVolume(number: number, backing: BlockDevice): CapturedVolume;
  beginGeneration(start: GenerationStart): void;
  /** Ends the stream: reason CLOSED. */
  closeStream(): void;
  /** Closes the stream and forgets what the ring holds, without an end: beginGeneration() may follow at once. */
  abandonStream(): void;
  raiseCeiling(lsn: bigint): void;
  startShipping(durableLsn: bigint, link: number): void;
  stopShipping(): void;
  /** The next frame, or the generation's end; null once close() was called. One call at a time. */
  next(): Promise<CapturedFrame | CapturedEnd | null>;
  release(durableLsn: bigint): void;
  position(): StreamPosition;
  stats(): CaptureStats;
  /** Front ends over its volumes must have stopped. */
  close(): Promise<void>;
}

// --- front ends ---

export interface NbdExport {
  name: string;
  description: string;
  device: BlockDevice;
  readOnly: boolean;
}
export interface NbdServerOptions {
  /** Path of a Unix socket, or null. */
  unix: string | null;
  /** Numeric address and port (0: chosen), or null. */
  tcp: { host: string; port: number } | null;
  exports: NbdExport[];
}
export interface NbdServer {
  /** "unix:/path" or "tcp:host:port". */
  readonly address: string;
  readonly connections: number;
  stop(): Promise<void>;
}
export interface FuseServerOptions {
  mountPoint: string;
  fileName: string;
  device: BlockDevice;
  readOnly: boolean;
  threads: number;
}
export interface FuseServer {
  stop(): Promise<void>;
}
/** A file, whatever has become of its path: `dev` and `ino` of stat(). */
export interface FileIdentity {
  device: bigint;
  inode: bigint;
}

// --- journal ---

export interface SegmentInfo {
  path: string;
  generation: bigint;
  firstLsn: bigint;
  lastLsn: bigint;
  firstTimeNs: bigint;
  lastTimeNs: bigint;
  firstEra: number;
  lastEra: number;
  frames: number;
  records: bigint;
  rawBytes: bigint;
  bytes: bigint;
  link: number;
  sealed: boolean;
}
export interface SegmentScan {
  info: SegmentInfo;
  /** Of the header, as `info.generation` is: whose segment it is, and the frame that it follows. */
  group: Buffer;
  member: Buffer;
  firstLink: number;
  fileBytes: bigint;
  stopReason: string;
  stopOffset: bigint;
}
export interface SegmentVolume {
  number: number;
  blockSize: number;
  uuid: Buffer;
  size: bigint;
}
export interface JournalPosition {
  epoch: bigint;
  generation: bigint;
  lastLsn: bigint;
  link: number;
}
export interface JournalOptions {
  directory: string;
  group: Buffer;
  member: Buffer;
  segmentBytes: bigint;
  position: JournalPosition;
  /** The unsealed last segment, cut to its valid bytes, or null. */
  tail: SegmentInfo | null;
}
export interface Appended {
  durableLsn: bigint;
  changed: SegmentInfo[];
}
/** native/journal/journal_writer.h */
export interface JournalWriter {
  /**
   * Queues a frame; resolves when it is on stable storage. The buffer begins at an address that is a multiple of 8 (as
   * what Buffer.alloc() and allocUnsafe() return does, but not every slice), and must not change until then.
   */
  append(frame: Buffer): Promise<Appended>;
  resume(epoch: bigint): void;
  beginGeneration(
    epoch: bigint,
    generation: bigint,
    firstLsn: bigint,
    volumes: SegmentVolume[],
  ): Promise<Appended>;
  position(): JournalPosition;
  close(): Promise<void>;
}
export interface PointTile {
  segment: SegmentInfo;
  /** Path of its run, or null. */
  run: string | null;
  /** Records before it are known to be lost; a later resync made up for them. */
  isAfterHole: boolean;
}
export interface PointOptions {
  basePath: string;
  size: bigint;
  blockSize: number;
  volume: number;
  lsn: bigint;
  tiles: PointTile[];
}
export interface BaseScrub {
  bytes: bigint;
  /** Blocks of the file without a checksum: as when they are being written. */
  unsummed: bigint;
  isEnd: boolean;
  /** False: it has no checksums that this program can read. */
  hasSums: boolean;
  /** Of damaged blocks of BASE_BLOCK_BYTES, at most BAD_OFFSETS_MAX. */
  badOffsets: bigint[];
}
export interface CopyResult {
  bytesWritten: bigint;
}

/** What the addon exports. Its objects are those above, but for their errors: plain ones, with `code` or without. */
interface Addon {
  openFileDevice(options: FileDeviceOptions): Promise<BlockDevice>;
  openOverlay(lower: BlockDevice, scratchDirectory: string): Promise<BlockDevice>;
  openPoint(options: PointOptions): Promise<BlockDevice>;
  copyRange(
    source: BlockDevice,
    target: BlockDevice,
    offset: bigint,
    length: number,
    skipZero: boolean,
  ): Promise<CopyResult>;
  createCaptureGroup(options: CaptureGroupOptions): CaptureGroup;
  startNbdServer(options: NbdServerOptions): Promise<NbdServer>;
  startFuseServer(options: FuseServerOptions): Promise<FuseServer>;
  attachLoop(file: string, blockSize: number, readOnly: boolean): Promise<string>;
  isLoopOver(device: string, file: FileIdentity): Promise<boolean>;
  detachLoop(device: string): Promise<void>;
  protectIoProcess(): string[];
  openJournal(options: JournalOptions): Promise<JournalWriter>;
  scanSegment(path: string, checkPayload: boolean): Promise<SegmentScan>;
  buildRun(segment: SegmentInfo, runPath: string): Promise<void>;
  isRunOf(segment: SegmentInfo, runPath: string): Promise<boolean>;
  runFault(segment: SegmentInfo, runPath: string): Promise<string>;
  openBase(path: string): Promise<BlockDevice>;
  completeBase(path: string): Promise<void>;
  loseBase(path: string, offset: bigint, size: bigint): Promise<void>;
  scrubBase(path: string, volumeBytes: bigint, offset: bigint, length: bigint): Promise<BaseScrub>;
  badBaseOffsets(point: BlockDevice): bigint[];
  lsnAtTime(segment: SegmentInfo, timeNs: bigint): Promise<bigint>;
  timeAtLsn(segment: SegmentInfo, lsn: bigint): Promise<bigint>;
  lockFile(path: string): number | null;
  crc32c(bytes: Buffer): number;
  isZero(bytes: Buffer): boolean;
  compress(bytes: Buffer): Buffer | null;
  decompress(bytes: Buffer, rawBytes: number): Buffer;
}

function load(): Addon {
  // From the sources and from dist/ alike: the addon lies at the root of the package.
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, 'binding.gyp'))) {
    const parent = path.dirname(directory);
    if (parent === directory) throw new Error('the root of the package was not found');
    directory = parent;
  }
  const addonPath = process.env['AFTERIMAGE_ADDON'] ?? path.join(directory, 'build/Release/afterimage.node');
  return createRequire(import.meta.url)(addonPath) as Addon;
}

const addon = load();

/** Errors: BACKING_MISSING, BACKING_BUSY, BACKING_INVALID, PERMISSION_DENIED, IO_ERROR. */
export const openFileDevice = (options: FileDeviceOptions): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openFileDevice(options)));
/** A writable, copy-on-write view of `lower`; gone when closed. Leaves a reserve of its disk. Errors: SCRATCH_UNAVAILABLE. */
export const openOverlay = (lower: BlockDevice, scratchDirectory: string): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openOverlay(addonDevice(lower), scratchDirectory)));
/**
 * One volume as it was at one LSN. Errors: POINT_UNKNOWN, POINT_TOO_LONG (more than 65 536 tiles), SEGMENT_CORRUPT,
 * BASE_MISSING, FILE_LIMIT, IO_ERROR.
 */
export const openPoint = (options: PointOptions): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openPoint(options)));
/** Copies at most 8 MiB natively; with skipZero, zero blocks of 4 KiB are not written. Errors: IO_ERROR, of either side. */
export const copyRange = (
  source: BlockDevice,
  target: BlockDevice,
  offset: bigint,
  length: number,
  skipZero: boolean,
): Promise<CopyResult> =>
  coded(() => addon.copyRange(addonDevice(source), addonDevice(target), offset, length, skipZero));
/** Errors: RING_UNAVAILABLE. */
export const createCaptureGroup = (options: CaptureGroupOptions): CaptureGroup =>
  codedSync(() => new CodedCaptureGroup(addon.createCaptureGroup(options)));
/** Errors: LISTEN_BUSY, LISTEN_FAILED. */
export const startNbdServer = (options: NbdServerOptions): Promise<NbdServer> =>
  coded(async () => {
    const exports = options.exports.map((one) => ({ ...one, device: addonDevice(one.device) }));
    return new CodedNbdServer(await addon.startNbdServer({ ...options, exports }));
  });
/** Errors: FUSE_UNAVAILABLE, FUSE_MOUNT, SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE. */
export const startFuseServer = (options: FuseServerOptions): Promise<FuseServer> =>
  coded(async () => {
    const device = addonDevice(options.device);
    return new CodedFuseServer(await addon.startFuseServer({ ...options, device }));
  });
/** Resolves with "/dev/loopN". Errors: LOOP_UNAVAILABLE, LOOP_ATTACH. */
export const attachLoop = (file: string, blockSize: number, readOnly: boolean): Promise<string> =>
  coded(() => addon.attachLoop(file, blockSize, readOnly));
/** Whether the loop device is attached to that file. Errors: LOOP_DETACH when that cannot be told. */
export const isLoopOver = (device: string, file: FileIdentity): Promise<boolean> =>
  coded(() => addon.isLoopOver(device, file));
/** Errors: LOOP_BUSY, LOOP_DETACH. */
export const detachLoop = (device: string): Promise<void> => coded(() => addon.detachLoop(device));
/** Exempts the process from what could stall or kill it on the I/O path; returns what was not permitted. */
export const protectIoProcess = (): string[] => codedSync(() => addon.protectIoProcess());
/** Errors: JOURNAL_IO, JOURNAL_FULL. */
export const openJournal = (options: JournalOptions): Promise<JournalWriter> =>
  coded(async () => new CodedJournalWriter(await addon.openJournal(options)));
/** Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR. */
export const scanSegment = (segmentPath: string, checkPayload: boolean): Promise<SegmentScan> =>
  coded(() => addon.scanSegment(segmentPath, checkPayload));
export const buildRun = (segment: SegmentInfo, runPath: string): Promise<void> =>
  coded(() => addon.buildRun(segment, runPath));
/**
 * Whether the file is the whole run of exactly this segment; false for a damaged or stale one, and where there is none.
 * Errors: IO_ERROR.
 */
export const isRunOf = (segment: SegmentInfo, runPath: string): Promise<boolean> =>
  coded(() => addon.isRunOf(segment, runPath));
/**
 * Why the run must not be used for this segment, "" where it may: all of it is read, and compared with what the segment
 * itself says. Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, IO_ERROR.
 */
export const runFault = (segment: SegmentInfo, runPath: string): Promise<string> =>
  coded(() => addon.runFault(segment, runPath));
/** Bytes of a base that have one checksum. */
export const BASE_BLOCK_BYTES = 64n * 1024n;
/** With so many damaged blocks there may be more that are not told. */
export const BAD_OFFSETS_MAX = 1024;
/**
 * A base image for writing, with its checksums (native/device/base_writer.h). Errors: as openFileDevice, JOURNAL_FULL,
 * JOURNAL_IO.
 */
export const openBase = (path: string): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openBase(path)));
/** Gives every block of a base that has no checksum the one of what it holds: all of it was written. Errors: as openBase. */
export const completeBase = (path: string): Promise<void> => coded(() => addon.completeBase(path));
/**
 * What a base held from `offset` on is gone: makes the file, or makes it `size` bytes long, and marks what has no checksum
 * there as damaged, so that it is never shown. Errors: JOURNAL_FULL, JOURNAL_IO.
 */
export const loseBase = (path: string, offset: bigint, size: bigint): Promise<void> =>
  coded(() => addon.loseBase(path, offset, size));
/** Verifies blocks of a base as the disk gives them. Errors: BASE_MISSING, FILE_LIMIT, IO_ERROR. */
export const scrubBase = (
  path: string,
  volumeBytes: bigint,
  offset: bigint,
  length: bigint,
): Promise<BaseScrub> => coded(() => addon.scrubBase(path, volumeBytes, offset, length));
/** Offsets of blocks of its base that reads of a point have found damaged so far. */
export const badBaseOffsets = (point: BlockDevice): bigint[] =>
  codedSync(() => addon.badBaseOffsets(addonDevice(point)));
/** The last LSN of the segment whose time is ≤ timeNs, or firstLsn − 1n. */
export const lsnAtTime = (segment: SegmentInfo, timeNs: bigint): Promise<bigint> =>
  coded(() => addon.lsnAtTime(segment, timeNs));
/** Errors: POINT_UNKNOWN. */
export const timeAtLsn = (segment: SegmentInfo, lsn: bigint): Promise<bigint> =>
  coded(() => addon.timeAtLsn(segment, lsn));
/** Takes an exclusive lock on a file (created 0600), held until the process ends; null when another process has it. */
export const lockFile = (lockPath: string): number | null => codedSync(() => addon.lockFile(lockPath));
export const crc32c = (bytes: Buffer): number => codedSync(() => addon.crc32c(bytes));
export const isZero = (bytes: Buffer): boolean => codedSync(() => addon.isZero(bytes));
/** An LZ4 block, or null when it would not save an eighth. */
export const compress = (bytes: Buffer): Buffer | null => codedSync(() => addon.compress(bytes));
/** Errors: MESSAGE_INVALID when the block does not decompress to exactly rawBytes. */
export const decompress = (bytes: Buffer, rawBytes: number): Buffer =>
  codedSync(() => addon.decompress(bytes, rawBytes));
