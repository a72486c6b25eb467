/**
 * The addon's objects with their errors coded: one class for each of index.ts, which says what the methods do. They keep
 * no state of their own, and hand the addon its own devices back.
 */
import { coded, codedSync } from './coded.js';
import type {
  Appended,
  BlockDevice,
  CapturedDelivery,
  CapturedVolume,
  CaptureGroup,
  CaptureStats,
  DeviceActivity,
  DeviceCounters,
  DirtyLog,
  DirtyLogState,
  FuseLegacy,
  FuseServer,
  GenerationStart,
  JournalPosition,
  JournalWriter,
  LostExtents,
  NbdDevice,
  NbdServer,
  PointTile,
  RollForward,
  RollProgress,
  SegmentVolume,
  StreamPosition,
  SyncPiece,
} from './index.js';

export class CodedDevice<Addon extends BlockDevice = BlockDevice> implements BlockDevice {
  readonly blockSize: number;
  readonly readOnly: boolean;
  constructor(readonly addon: Addon) {
    this.blockSize = addon.blockSize;
    this.readOnly = addon.readOnly;
  }
  get size(): bigint {
    return this.addon.size;
  }
  remeasure(): Promise<bigint> {
    return coded(() => this.addon.remeasure());
  }
  read(offset: bigint, into: Buffer): Promise<void> {
    return coded(() => this.addon.read(offset, into));
  }
  readPiece(offset: bigint, into: Buffer): Promise<SyncPiece> {
    return coded(() => this.addon.readPiece(offset, into));
  }
  writePiece(...piece: Parameters<BlockDevice['writePiece']>): Promise<void> {
    return coded(() => this.addon.writePiece(...piece));
  }
  hashBlocks(offset: bigint, length: number, blockBytes: number, key: Buffer): Promise<Buffer> {
    return coded(() => this.addon.hashBlocks(offset, length, blockBytes, key));
  }
  write(offset: bigint, from: Buffer): Promise<void> {
    return coded(() => this.addon.write(offset, from));
  }
  zero(offset: bigint, length: bigint): Promise<void> {
    return coded(() => this.addon.zero(offset, length));
  }
  flush(): Promise<void> {
    return coded(() => this.addon.flush());
  }
  forgetCached(): Promise<void> {
    return coded(() => this.addon.forgetCached());
  }
  close(): Promise<void> {
    return coded(() => this.addon.close());
  }
}

/** The addon's own device: it refuses what is not one. */
export function addonDevice(device: BlockDevice): BlockDevice {
  return device instanceof CodedDevice ? (device as CodedDevice).addon : device;
}

class CodedVolume extends CodedDevice<CapturedVolume> implements CapturedVolume {
  republish(offset: bigint, length: number): Promise<bigint | null> {
    return coded(() => this.addon.republish(offset, length));
  }
  readSettled(offset: bigint, into: Buffer): Promise<bigint> {
    return coded(() => this.addon.readSettled(offset, into));
  }
  fence(): Promise<bigint> {
    return coded(() => this.addon.fence());
  }
  prepareGrowth(bytes: bigint): Promise<void> {
    return coded(() => this.addon.prepareGrowth(bytes));
  }
  grow(bytes: bigint): void {
    codedSync(() => this.addon.grow(bytes));
  }
  settleInFlight(): Promise<void> {
    return coded(() => this.addon.settleInFlight());
  }
  inFlightDescriptor(): number {
    return codedSync(() => this.addon.inFlightDescriptor());
  }
  cleanUp(): Promise<void> {
    return coded(() => this.addon.cleanUp());
  }
  counters(): DeviceCounters {
    return codedSync(() => this.addon.counters());
  }
  activity(): DeviceActivity {
    return codedSync(() => this.addon.activity());
  }
}

export class CodedDirtyLog implements DirtyLog {
  constructor(readonly addon: DirtyLog) {}

  state(): DirtyLogState {
    return codedSync(() => this.addon.state());
  }
  extents(): Promise<Buffer> {
    return coded(() => this.addon.extents());
  }
  isMarked(offset: bigint): boolean {
    return codedSync(() => this.addon.isMarked(offset));
  }
  setSynced(generation: bigint): void {
    codedSync(() => this.addon.setSynced(generation));
  }
  markAll(): Promise<void> {
    return coded(() => this.addon.markAll());
  }
  end(): Promise<void> {
    return coded(() => this.addon.end());
  }
}

/** The addon's own log: it refuses what is not one. */
function addonLog(log: DirtyLog | null): DirtyLog | null {
  return log instanceof CodedDirtyLog ? log.addon : log;
}

export class CodedCaptureGroup implements CaptureGroup {
  constructor(private readonly addon: CaptureGroup) {}

  addVolume(
    number: number,
    backing: BlockDevice,
    log: DirtyLog | null,
    inFlight: number | null,
  ): CapturedVolume {
    return codedSync(
      () => new CodedVolume(this.addon.addVolume(number, addonDevice(backing), addonLog(log), inFlight)),
    );
  }
  beginGeneration(start: GenerationStart): void {
    codedSync(() => this.addon.beginGeneration(start));
  }
  closeStream(): void {
    codedSync(() => this.addon.closeStream());
  }
  resumeClock(lastTimeNs: bigint, era: number): void {
    codedSync(() => this.addon.resumeClock(lastTimeNs, era));
  }
  abandonStream(): void {
    codedSync(() => this.addon.abandonStream());
  }
  resumeGeneration(epoch: bigint, lsnCeiling: bigint): void {
    codedSync(() => this.addon.resumeGeneration(epoch, lsnCeiling));
  }
  ringDescriptor(): number {
    return codedSync(() => this.addon.ringDescriptor());
  }
  raiseCeiling(lsn: bigint): void {
    codedSync(() => this.addon.raiseCeiling(lsn));
  }
  startShipping(durableLsn: bigint, link: number): void {
    codedSync(() => this.addon.startShipping(durableLsn, link));
  }
  stopShipping(): void {
    codedSync(() => this.addon.stopShipping());
  }
  async next(): Promise<CapturedDelivery | null> {
    const delivery = await coded(() => this.addon.next());
    if (delivery?.kind === 'frame') {
      const release = delivery.release;
      delivery.release = () => codedSync(release);
    }
    return delivery;
  }
  release(durableLsn: bigint): void {
    codedSync(() => this.addon.release(durableLsn));
  }
  position(): StreamPosition {
    return codedSync(() => this.addon.position());
  }
  stats(): CaptureStats {
    return codedSync(() => this.addon.stats());
  }
  close(): Promise<void> {
    return coded(() => this.addon.close());
  }
}

export class CodedNbdServer implements NbdServer {
  readonly address: string;
  constructor(private readonly addon: NbdServer) {
    this.address = addon.address;
  }
  get connections(): number {
    return this.addon.connections;
  }
  listening(): number {
    return codedSync(() => this.addon.listening());
  }
  admit(): void {
    codedSync(() => this.addon.admit());
  }
  stop(): Promise<void> {
    return coded(() => this.addon.stop());
  }
}

export class CodedNbdDevice implements NbdDevice {
  readonly name: string;
  constructor(private readonly addon: NbdDevice) {
    this.name = addon.name;
  }
  stop(): Promise<void> {
    return coded(() => this.addon.stop());
  }
}

export class CodedFuseServer implements FuseServer {
  constructor(private readonly addon: FuseServer) {}
  legacy(): FuseLegacy {
    return codedSync(() => this.addon.legacy());
  }
  stop(): Promise<void> {
    return coded(() => this.addon.stop());
  }
}

export class CodedJournalWriter implements JournalWriter {
  constructor(private readonly addon: JournalWriter) {}

  append(frame: Buffer): Promise<Appended> {
    return coded(() => this.addon.append(frame));
  }
  resume(epoch: bigint): void {
    codedSync(() => this.addon.resume(epoch));
  }
  beginGeneration(
    epoch: bigint,
    generation: bigint,
    firstLsn: bigint,
    volumes: SegmentVolume[],
  ): Promise<Appended> {
    return coded(() => this.addon.beginGeneration(epoch, generation, firstLsn, volumes));
  }
  position(): JournalPosition {
    return codedSync(() => this.addon.position());
  }
  close(): Promise<void> {
    return coded(() => this.addon.close());
  }
}

export class CodedRollForward implements RollForward {
  constructor(private readonly addon: RollForward) {}
  advance(bytesMax: bigint): Promise<RollProgress> {
    return coded(() => this.addon.advance(bytesMax));
  }
  sync(): Promise<void> {
    return coded(() => this.addon.sync());
  }
  badOffsets(): bigint[] {
    return this.addon.badOffsets();
  }
  close(): Promise<void> {
    return coded(() => this.addon.close());
  }
}

export class CodedLostExtents implements LostExtents {
  constructor(private readonly addon: LostExtents) {}
  follow(tiles: PointTile[], lsnMax: bigint): Promise<bigint | null> {
    return coded(() => this.addon.follow(tiles, lsnMax));
  }
}
