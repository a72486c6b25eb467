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
  CodedDirtyLog,
  CodedFuseServer,
  CodedJournalWriter,
  CodedLostExtents,
  CodedNbdDevice,
  CodedNbdServer,
  CodedRollForward,
} from './coded_objects.js';

/** A block device (native/device/block_device.h). I/O runs on worker threads. */
export interface BlockDevice {
  /** It may grow, and never shrinks. */
  readonly size: bigint;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /**
   * Bytes that are there now; where that is more than `size`, `size` has become it. Errors: BACKING_INVALID (more, and no
   * multiple of its blocks), IO_ERROR.
   */
  remeasure(): Promise<bigint>;
  /** Fills `into` from `offset`. The buffer must not be touched until the promise settles. Errors: IO_ERROR. */
  read(offset: bigint, into: Buffer): Promise<void>;
  /**
   * Reads as much as `into` holds, at most 1 MiB, for an initial sync: what is to travel is at its beginning then. Errors:
   * IO_ERROR.
   */
  readPiece(offset: bigint, into: Buffer): Promise<SyncPiece>;
  /** As hashBlocks below, of what the device holds in a range, which is left out of the page cache. Errors: IO_ERROR. */
  hashBlocks(offset: bigint, length: number, blockBytes: number, key: Buffer): Promise<Buffer>;
  write(offset: bigint, from: Buffer): Promise<void>;
  /** Checks and expands what readPiece made. Errors: MESSAGE_INVALID, and nothing was written; IO_ERROR. */
  writePiece(
    offset: bigint,
    rawBytes: number,
    compressed: boolean,
    crc32c: number,
    data: Buffer,
  ): Promise<void>;
  zero(offset: bigint, length: bigint): Promise<void>;
  flush(): Promise<void>;
  /** What is read from now on is on the disk, as far as nobody writes meanwhile, and not only in the page cache. */
  forgetCached(): Promise<void>;
  /** Releases the device. Front ends that still serve it keep it alive until they stop. */
  close(): Promise<void>;
}

/** native/device/sync_piece.h */
export interface SyncPiece {
  /** As it travels; 0: all of it is zero. */
  bytes: number;
  compressed: boolean;
  crc32c: number;
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
  /** Null: none. */
  spool: SpoolOptions | null;
  /** How long nobody must have written to an extent of a volume for it to be unmarked, 1 or more. Without: a minute. */
  unmarkAfterMs?: number;
}
/** native/capture/spooler.h */
export interface SpoolOptions {
  /** Of the member alone; made when it is needed. */
  directory: string;
  bytesMax: bigint;
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
/** What was spooled cannot be read: nothing follows, and the stream has to be abandoned. */
export interface CapturedLoss {
  kind: 'loss';
  code: string;
  message: string;
}
export type CapturedDelivery = CapturedFrame | CapturedEnd | CapturedLoss;
export interface CaptureStats {
  streaming: boolean;
  generation: bigint;
  lsnCeiling: bigint;
  capturedLsn: bigint;
  capturedTimeNs: bigint;
  releasedLsn: bigint;
  oldestTimeNs: bigint;
  ringUsedBytes: bigint;
  ringBytes: bigint;
  spoolUsedBytes: bigint;
  /** 0n: there is none. */
  spoolBytes: bigint;
  /** SPOOL_FULL or SPOOL_IO: nothing can be spooled now, for the reason that spoolMessage has; "": nothing is in the way. */
  spoolFault: string;
  spoolMessage: string;
  /** Files in the spool's directory that are not its own, and stay. */
  spoolForeign: string;
  /** Of the stream that has ended last; "": none has since one began. */
  endReason: string;
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
  readLatency: Latency;
  /** Zeroes and trims too. */
  writeLatency: Latency;
  flushLatency: Latency;
}
/** native/os/latency_histogram.h: how many requests took at most as long as each of LATENCY_BOUNDS_NS, and longer than the one before. */
export interface Latency {
  /** One more than there are bounds: the last is for those that took longer. */
  counts: bigint[];
  sumNs: bigint;
}
/** Requests that are under way, none of which is at the backing, while none ends: they are stuck in this program. */
export interface DeviceActivity {
  underWay: number;
  atBacking: number;
  /** Since the device was made. */
  ended: bigint;
}
export const LATENCY_BOUNDS_NS: readonly number[] = Array.from(
  { length: 21 },
  (_, bucket) => 16_000 * 2 ** bucket,
);
/** A protected volume: reads and writes through it are captured. */
export interface CapturedVolume extends BlockDevice {
  /**
   * Journals what the backing holds there (at most 1 MiB). Resolves with the record's LSN, 0n when the stream is
   * closed, or null when the ring is more than half full: try again later.
   */
  republish(offset: bigint, length: number): Promise<bigint | null>;
  /**
   * Reads whole sectors, at most 1 MiB, while no write is under way there. Resolves with the LSN at which a replica holds
   * just that, 0n when the stream is closed.
   */
  readSettled(offset: bigint, into: Buffer): Promise<bigint>;
  /** An LSN not before any write that was in flight when the call began. */
  fence(): Promise<bigint>;
  /**
   * Ends the stream (VOLUME_GROWN), and puts what the volume is to grow by in doubt. The backing has `bytes` already.
   * Errors: MEMORY_UNAVAILABLE.
   */
  prepareGrowth(bytes: bigint): Promise<void>;
  /** The volume has `bytes`, which were prepared; a stream that was begun since ends. */
  grow(bytes: bigint): void;
  /**
   * Before anybody writes: what a predecessor was writing when it ended is journaled as the backing holds it. The stream is
   * closed where that cannot be done.
   */
  settleInFlight(): Promise<void>;
  /** Of the table of writes in flight, which the volume keeps. */
  inFlightDescriptor(): number;
  /** Unmarks in its dirty log at once what may be unmarked; flushes the backing for it. */
  cleanUp(): Promise<void>;
  counters(): DeviceCounters;
  activity(): DeviceActivity;
}
export interface DirtyLogOptions {
  path: string;
  /** UUID of the volume. */
  volume: Buffer;
  volumeBytes: bigint;
  /** For so long it waits for the disk; then the log is void. */
  openingPatienceMs: number;
}
/** native/capture/dirty_log.h */
export interface DirtyLogState {
  /** Random, of the file; 0n: it is void, and the next start must compare everything. */
  id: bigint;
  /** Rises with what is durable of it. */
  sequence: bigint;
  /** What is unmarked is right if the receiver holds everything up to here, in this generation or a later one. */
  basisGeneration: bigint;
  basisLsn: bigint;
  /** Of 4 MiB; how many there are, and how many are in doubt. */
  extents: bigint;
  marked: bigint;
  /** The backing failed a flush: nothing is unmarked until it is opened anew. */
  flushFailed: boolean;
  /** Why nothing that the file held was believed, "": it was. */
  distrust: string;
  /** Why it is void, "": it is not. */
  fault: string;
  /** It is void, and its file could not be made so yet: who finds that would believe it. */
  isStale: boolean;
}
/** Which extents of a volume are in doubt. A captured volume marks in it and unmarks by itself. */
export interface DirtyLog {
  state(): DirtyLogState;
  /** Bit e of byte e / 8 stands for extent e: what was written since the generation began is in it, and more. */
  extents(): Promise<Buffer>;
  isMarked(offset: bigint): boolean;
  /** The receiver holds the volume in `generation`: from now on it is unmarked. */
  setSynced(generation: bigint): void;
  /** The whole volume is in doubt, on stable storage when it resolves (unless the log is void). */
  markAll(): Promise<void>;
  /** Nobody marks in it any more: from now on it can only be looked at. */
  end(): Promise<void>;
}
/** native/capture/capture_group.h */
export interface CaptureGroup {
  /**
   * `log`: its dirty log, or null. `inFlight`: the table of writes in flight of a predecessor, a descriptor that stays the
   * caller's; null: a new one. Errors: RING_LAYOUT, RING_UNAVAILABLE.
   */
  addVolume(
    number: number,
    backing: BlockDevice,
    log: DirtyLog | null,
    inFlight: number | null,
  ): CapturedVolume;
  beginGeneration(start: GenerationStart): void;
  /** An inherited generation goes on, and its frames are `epoch`'s from now on. */
  resumeGeneration(epoch: bigint, lsnCeiling: bigint): void;
  /** Of the ring, which keeps it. */
  ringDescriptor(): number;
  /** Ends the stream: reason CLOSED. */
  closeStream(): void;
  /** Time goes on above `lastTimeNs` in era `era`, where it is not beyond that already. No generation is under way. */
  resumeClock(lastTimeNs: bigint, era: number): void;
  /** Closes the stream and forgets what the ring holds, without an end: beginGeneration() may follow at once. */
  abandonStream(): void;
  raiseCeiling(lsn: bigint): void;
  startShipping(durableLsn: bigint, link: number): void;
  stopShipping(): void;
  /** The next frame, the generation's end, or that there is no way to get there; null once close() was called. One call at a time. */
  next(): Promise<CapturedDelivery | null>;
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
  /** A descriptor of the socket that listens, for a successor; the caller's. Errors: LISTEN_FAILED. */
  listening(): number;
  /** Of one that was only opened: serves whoever has connected, and connects. Errors: LISTEN_FAILED. */
  admit(): void;
  stop(): Promise<void>;
}
export interface FuseServerOptions {
  mountPoint: string;
  fileName: string;
  device: BlockDevice;
  readOnly: boolean;
  threads: number;
}
/** What a successor needs to go on serving. */
export interface FuseLegacy {
  fuse: number;
  /** Null: of a layout that cannot be read. What was under way is lost where the kernel does not send it again. */
  slots: number | null;
  /** Without links. */
  mountPoint: string;
  /** The kernel's number of the session. */
  connection: number;
}
export interface FuseServer {
  /** With duplicates of the descriptors, which the caller closes. */
  legacy(): FuseLegacy;
  stop(): Promise<void>;
}
/** A device of the kernel's nbd driver, and who serves it. */
export interface NbdDevice {
  /** "/dev/nbdN". */
  readonly name: string;
  /** Serves no more: requests wait for the next server, unless the device is detached. */
  stop(): Promise<void>;
}
/** A file, whatever has become of its path: `dev` and `ino` of stat(). */
export interface FileIdentity {
  device: bigint;
  inode: bigint;
}

// --- the process and its service manager ---

/** Versions of a memory layout: the oldest that is read, and the one that is written, which is the newest. */
export interface LayoutRange {
  oldest: number;
  written: number;
}
/** What a predecessor gave to the descriptor store; the taker closes it. */
export interface StoredDescriptor {
  name: string;
  descriptor: number;
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
  /** What a new segment must leave free on its file system: else JOURNAL_FULL. */
  headroomBytes: bigint;
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
/** The base of one volume on its way over the oldest segments (native/device/roll_forward.h). One call at a time. */
export interface RollForward {
  /**
   * Writes at least `bytesMax` more, or what is left. Errors: SEGMENT_CORRUPT and IO_ERROR of the segments, JOURNAL_FULL
   * and JOURNAL_IO of the base, BASE_CORRUPT where it would write into a part of a damaged block.
   */
  advance(bytesMax: bigint): Promise<RollProgress>;
  /** Makes it durable. Errors: JOURNAL_FULL, JOURNAL_IO; then all of it has to be done anew. */
  sync(): Promise<void>;
  /** After BASE_CORRUPT: of the damaged blocks. */
  badOffsets(): bigint[];
  close(): Promise<void>;
}
export interface RollProgress {
  /** By this call. */
  bytesWritten: bigint;
  isDone: boolean;
}
/** What lost records had set and no later record has set again (native/journal/lost_extents.h). One call at a time. */
export interface LostExtents {
  /**
   * Goes on over the segments that follow, as far as `lsnMax`: the first LSN at which nothing is left; null: it lies behind.
   * Errors: SEGMENT_CORRUPT, SEGMENT_VERSION, FILE_LIMIT, IO_ERROR.
   */
  follow(tiles: PointTile[], lsnMax: bigint): Promise<bigint | null>;
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
  reopenFileDevice(options: FileDeviceOptions, size: bigint, inode: bigint): Promise<BlockDevice>;
  openOverlay(lower: BlockDevice, scratchDirectory: string): Promise<BlockDevice>;
  openPoint(options: PointOptions): Promise<BlockDevice>;
  openRollForward(options: PointOptions): Promise<RollForward>;
  openLostExtents(whole: SegmentInfo, runPath: string, intact: SegmentInfo | null): Promise<LostExtents>;
  copyRange(
    source: BlockDevice,
    target: BlockDevice,
    offset: bigint,
    length: number,
    skipZero: boolean,
  ): Promise<CopyResult>;
  createCaptureGroup(options: CaptureGroupOptions): CaptureGroup;
  adoptCaptureGroup(options: CaptureGroupOptions, ring: number): CaptureGroup;
  openDirtyLog(options: DirtyLogOptions): Promise<DirtyLog>;
  openNbdServer(options: NbdServerOptions, listening: number | null): Promise<NbdServer>;
  startNbdServer(options: NbdServerOptions): Promise<NbdServer>;
  startFuseServer(options: FuseServerOptions): Promise<FuseServer>;
  resumeFuseServer(options: FuseServerOptions, legacy: FuseLegacy): Promise<FuseServer>;
  attachLoop(file: string, blockSize: number, readOnly: boolean): Promise<string>;
  isLoopOver(device: string, file: FileIdentity): Promise<boolean>;
  detachLoop(device: string): Promise<void>;
  resizeLoop(device: string, file: string, bytes: bigint): Promise<void>;
  attachNbd(device: BlockDevice, backend: string): Promise<NbdDevice>;
  resumeNbd(device: BlockDevice, backend: string, name: string): Promise<NbdDevice>;
  detachNbd(name: string, backend: string, isForced: boolean): Promise<void>;
  resizeNbd(name: string, backend: string, bytes: bigint): Promise<void>;
  protectIoProcess(): string[];
  hasServiceManager(): boolean;
  tellServiceManager(assignments: string): void;
  awaitServiceManager(patienceMs: number): Promise<void>;
  storeDescriptor(name: string, descriptor: number): void;
  forgetDescriptor(name: string): void;
  takeStoredDescriptors(): StoredDescriptor[];
  makeSealedMemory(name: string, bytes: Buffer): number;
  peerCredentials(descriptor: number): { pid: number; uid: number };
  isTcpClosed(descriptor: number): boolean;
  becomeProgram(path: string, args: string[]): never;
  endProcess(status: number): never;
  layouts(): Record<'ring' | 'inFlight' | 'slots', LayoutRange>;
  openJournal(options: JournalOptions): Promise<JournalWriter>;
  scanSegment(path: string, checkPayload: boolean): Promise<SegmentScan>;
  buildRun(segment: SegmentInfo, runPath: string): Promise<void>;
  isRunOf(segment: SegmentInfo, runPath: string): Promise<boolean>;
  runFault(segment: SegmentInfo, runPath: string): Promise<string>;
  openBase(path: string): Promise<BlockDevice>;
  completeBase(path: string): Promise<void>;
  sumBase(path: string, offset: bigint, length: bigint): Promise<bigint>;
  loseBase(path: string, offset: bigint, size: bigint): Promise<void>;
  scrubBase(path: string, volumeBytes: bigint, offset: bigint, length: bigint): Promise<BaseScrub>;
  badBaseOffsets(point: BlockDevice): bigint[];
  lsnAtTime(segment: SegmentInfo, timeNs: bigint): Promise<bigint>;
  timeAtLsn(segment: SegmentInfo, lsn: bigint): Promise<bigint>;
  lockFile(path: string): number | null;
  crc32c(bytes: Buffer): number;
  hashBlocks(bytes: Buffer, blockBytes: number, key: Buffer): Promise<Buffer>;
}

/** Where the native parts are: where they were built, else those that the npm package brings (prebuildify). */
function nativeDirectory(): string {
  // From the sources and from dist/ alike: they lie at the root of the package.
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, 'package.json'))) {
    const parent = path.dirname(directory);
    if (parent === directory) throw new Error('the root of the package was not found');
    directory = parent;
  }
  const built = path.join(directory, 'build/Release');
  const brought = path.join(directory, 'prebuilds', `${process.platform}-${process.arch}`);
  return existsSync(path.join(built, ADDON)) ? built : brought;
}

const ADDON = 'afterimage.node';
const addonPath = process.env['AFTERIMAGE_ADDON'] ?? path.join(nativeDirectory(), ADDON);
const addon = createRequire(import.meta.url)(addonPath) as Addon;

/** The program that runs an agent again when it has died, and keeps its descriptors meanwhile (native/supervisor). */
export const supervisorPath = path.join(nativeDirectory(), 'afterimage-supervisor');

/** Errors: BACKING_MISSING, BACKING_BUSY, BACKING_INVALID, PERMISSION_DENIED, IO_ERROR. */
export const openFileDevice = (options: FileDeviceOptions): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openFileDevice(options)));
/**
 * One that was served before, with the size that it had, whatever is there now. `inode`: of the file that it must be; 0: any.
 * Errors: as openFileDevice, BACKING_REPLACED.
 */
export const reopenFileDevice = (
  options: FileDeviceOptions,
  size: bigint,
  inode: bigint,
): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.reopenFileDevice(options, size, inode)));
/** A writable, copy-on-write view of `lower`; gone when closed. Leaves a reserve of its disk. Errors: SCRATCH_UNAVAILABLE. */
export const openOverlay = (lower: BlockDevice, scratchDirectory: string): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openOverlay(addonDevice(lower), scratchDirectory)));
/**
 * One volume as it was at one LSN. Errors: POINT_UNKNOWN, POINT_TOO_LONG (more than 65 536 tiles), SEGMENT_CORRUPT,
 * BASE_MISSING, FILE_LIMIT, IO_ERROR.
 */
export const openPoint = (options: PointOptions): Promise<BlockDevice> =>
  coded(async () => new CodedDevice(await addon.openPoint(options)));
/**
 * The base of `options` is going to include its tiles, all of them whole; `options.lsn` is the last of theirs. Errors: as
 * openPoint, BACKING_BUSY, PERMISSION_DENIED, JOURNAL_FULL, JOURNAL_IO.
 */
export const openRollForward = (options: PointOptions): Promise<RollForward> =>
  coded(async () => new CodedRollForward(await addon.openRollForward(options)));
/**
 * What the records of a damaged segment had set that are lost, by the run of `whole`, which is the segment as it was
 * written; `intact` is what can still be read of it, if anything. Errors: RUN_CORRUPT, RUN_VERSION, SEGMENT_CORRUPT,
 * SEGMENT_VERSION, IO_ERROR: it is not known.
 */
export const openLostExtents = (
  whole: SegmentInfo,
  runPath: string,
  intact: SegmentInfo | null,
): Promise<LostExtents> =>
  coded(async () => new CodedLostExtents(await addon.openLostExtents(whole, runPath, intact)));
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
/**
 * Goes on with the ring of a process that has ended, and captures at once if that did; ships from resumeGeneration() on.
 * The ring's own size, time and era count. Errors: RING_LAYOUT, RING_UNAVAILABLE, SPOOL_CORRUPT (part of it was spooled,
 * and there is no spool any more). What was spooled is looked for meanwhile: next() waits for it.
 */
export const adoptCaptureGroup = (options: CaptureGroupOptions, ring: number): CaptureGroup =>
  codedSync(() => new CodedCaptureGroup(addon.adoptCaptureGroup(options, ring)));
/** There always is one, perhaps a void one. Errors: MEMORY_UNAVAILABLE. */
export const openDirtyLog = (options: DirtyLogOptions): Promise<DirtyLog> =>
  coded(async () => new CodedDirtyLog(await addon.openDirtyLog(options)));
/**
 * One that lets clients connect, and wait. `listening`: a predecessor's socket, which is gone on with whatever `options` say
 * of where to listen; it stays the caller's. Errors: LISTEN_BUSY, LISTEN_FAILED.
 */
export const openNbdServer = (options: NbdServerOptions, listening: number | null): Promise<NbdServer> =>
  coded(async () => {
    const exports = options.exports.map((one) => ({ ...one, device: addonDevice(one.device) }));
    return new CodedNbdServer(await addon.openNbdServer({ ...options, exports }, listening));
  });
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
/**
 * Goes on where the server of a process that has ended was: what that had read is finished, and then what the kernel sends
 * again. The descriptors stay the caller's. Errors: SLOTS_LAYOUT, SLOTS_UNAVAILABLE, MEMORY_UNAVAILABLE, FUSE_UNAVAILABLE.
 */
export const resumeFuseServer = (options: FuseServerOptions, legacy: FuseLegacy): Promise<FuseServer> =>
  coded(async () => {
    const device = addonDevice(options.device);
    return new CodedFuseServer(await addon.resumeFuseServer({ ...options, device }, legacy));
  });
/** Resolves with "/dev/loopN". Errors: LOOP_UNAVAILABLE, LOOP_ATTACH. */
export const attachLoop = (file: string, blockSize: number, readOnly: boolean): Promise<string> =>
  coded(() => addon.attachLoop(file, blockSize, readOnly));
/** Whether the loop device is attached to that file. Errors: LOOP_DETACH when that cannot be told. */
export const isLoopOver = (device: string, file: FileIdentity): Promise<boolean> =>
  coded(() => addon.isLoopOver(device, file));
/** Errors: LOOP_BUSY, LOOP_DETACH. */
export const detachLoop = (device: string): Promise<void> => coded(() => addon.detachLoop(device));
/** Makes it as large as the file that it lies over has become, `bytes`. Errors: DEVICE_RESIZE. */
export const resizeLoop = (device: string, file: string, bytes: bigint): Promise<void> =>
  coded(() => addon.resizeLoop(device, file, bytes));
/**
 * Attaches the first free device of the nbd driver, of the size and block size of `device`. `backend`, up to 128 bytes, says
 * whose it is (/sys/block/nbdN/backend). Errors: NBD_UNAVAILABLE, NBD_ATTACH, MEMORY_UNAVAILABLE.
 */
export const attachNbd = (device: BlockDevice, backend: string): Promise<NbdDevice> =>
  coded(async () => new CodedNbdDevice(await addon.attachNbd(addonDevice(device), backend)));
/**
 * Serves a device that a process attached which has ended: what that had read and not answered comes again. Errors:
 * NBD_UNAVAILABLE, NBD_GONE, MEMORY_UNAVAILABLE.
 */
export const resumeNbd = (device: BlockDevice, backend: string, name: string): Promise<NbdDevice> =>
  coded(async () => new CodedNbdDevice(await addon.resumeNbd(addonDevice(device), backend, name)));
/**
 * Detaches a device that is served, if it is still that of `backend`; `isForced`: also from whoever uses it, who gets I/O
 * errors. Errors: NBD_UNAVAILABLE, NBD_BUSY, NBD_DETACH.
 */
export const detachNbd = (name: string, backend: string, isForced: boolean): Promise<void> =>
  coded(() => addon.detachNbd(name, backend, isForced));
/** It has `bytes` from now on. Errors: NBD_UNAVAILABLE, DEVICE_RESIZE. */
export const resizeNbd = (name: string, backend: string, bytes: bigint): Promise<void> =>
  coded(() => addon.resizeNbd(name, backend, bytes));
/** Exempts the process from what could stall or kill it on the I/O path; returns what was not permitted. */
export const protectIoProcess = (): string[] => codedSync(() => addon.protectIoProcess());
/** Of the memory that is left to a successor, by kind. */
export const layouts = (): Record<string, LayoutRange> => codedSync(() => addon.layouts());
/** Whether a service manager listens ($NOTIFY_SOCKET), which may keep descriptors for a successor. */
export const hasServiceManager = (): boolean => codedSync(() => addon.hasServiceManager());
/** Assignments of sd_notify(3), one a line: "READY=1". Errors: NOTIFY_FAILED. */
export const tellServiceManager = (assignments: string): void =>
  codedSync(() => addon.tellServiceManager(assignments));
/** The same where there is a service manager; elsewhere nobody is told. */
export const notifyServiceManager = (assignments: string): void => {
  if (hasServiceManager()) tellServiceManager(assignments);
};
/** Resolves when the service manager has carried out what it was told before. Errors: NOTIFY_FAILED. */
export const awaitServiceManager = (patienceMs: number): Promise<void> =>
  coded(() => addon.awaitServiceManager(patienceMs));
/** Who connected to a Unix socket, by the descriptor of the connection. Errors: IO_ERROR. */
export const peerCredentials = (descriptor: number): { pid: number; uid: number } =>
  codedSync(() => addon.peerCredentials(descriptor));
/** Whether a TCP connection has ended on both sides, by a reset say. Errors: IO_ERROR. */
export const isTcpClosed = (descriptor: number): boolean => codedSync(() => addon.isTcpClosed(descriptor));
/** Gives a copy to the descriptor store. Errors: NOTIFY_FAILED. */
export const storeDescriptor = (name: string, descriptor: number): void =>
  codedSync(() => addon.storeDescriptor(name, descriptor));
/** The store lets go of all descriptors of that name. Errors: NOTIFY_FAILED. */
export const forgetDescriptor = (name: string): void => codedSync(() => addon.forgetDescriptor(name));
/** What a predecessor left in the descriptor store, at the first call. */
export const takeStoredDescriptors = (): StoredDescriptor[] => codedSync(() => addon.takeStoredDescriptors());
/** A descriptor of memory that holds `bytes` for good. Errors: MEMORY_UNAVAILABLE. */
export const makeSealedMemory = (name: string, bytes: Buffer): number =>
  codedSync(() => addon.makeSealedMemory(name, bytes));
/** Runs another program in the place of this one. Errors: SUPERVISOR_UNAVAILABLE. */
export const becomeProgram = (programPath: string, args: string[]): never =>
  codedSync(() => addon.becomeProgram(programPath, args));
/** Ends this process at once, whatever its threads wait for and whoever would be told. `status`: 0 to 255. */
export const endProcess = (status: number): never => codedSync(() => addon.endProcess(status));
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
 * Likewise within a range that begins with a block; what cannot be read stays without. How many blocks that were. Errors: as
 * openBase.
 */
export const sumBase = (path: string, offset: bigint, length: bigint): Promise<bigint> =>
  coded(() => addon.sumBase(path, offset, length));
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
/** HMAC-SHA-256 (RFC 2104, FIPS 180-4) of each block, 32 bytes; the last block may be shorter. `bytes` must not change meanwhile. */
export const hashBlocks = (bytes: Buffer, blockBytes: number, key: Buffer): Promise<Buffer> =>
  coded(() => addon.hashBlocks(bytes, blockBytes, key));
