/**
 * One protected volume: its backing, which nobody else may write to, and above it the captured device that a front end
 * serves to the host.
 */
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { VolumeInfo } from '../proto/replication.js';
import { deviceNumber } from '../service/device_number.js';
import type { Log } from '../service/log.js';
import { aborted } from '../service/signals.js';
import type * as native from '../native/index.js';
import type { Attachment } from './attachment.js';
import { openBacking } from './backing.js';
import { BackingErrors } from './backing_errors.js';
import { backingFingerprint, evidenceOf, statOf, type BackingEvidence } from './backing_fingerprint.js';
import { backingIdentity, isOtherDevice } from './backing_identity.js';
import { backingSamples, evidenceOfSamples } from './backing_samples.js';
import { backingSight, isDevice, isOtherBacking, type BackingSight } from './backing_sight.js';
import type { Clock } from './clock.js';
import type { AttachConfig, VolumeConfig } from './config.js';
import { endAll } from './endings.js';
import type { GroupCustody, VolumeCustody } from './custody.js';
import { DIRTY_EXTENT_BYTES, openDirtyLog } from './dirty_logs.js';
import type { InheritedVolume } from './inheritance.js';
import { attachLoopDevice, resumeLoopDevice, servedAt, type LoopDoor } from './loop_attachment.js';
import { MappedDevice } from './mapped_device.js';
import { attachNbdDevice, nbdBackend, resumeNbdDevice, type NbdDoor } from './nbd_attachment.js';
import { retry } from './retry.js';
import type { AttachmentSettings, VolumeSettings } from './served_settings.js';
import { attachSocket, resumeSocket, type SocketDoor } from './socket_attachment.js';
import type { VolumeMemory } from './state.js';
import { VolumeUse } from './volume_use.js';

export type VolumeDoor = LoopDoor &
  NbdDoor &
  SocketDoor &
  Pick<typeof native, 'openFileDevice' | 'reopenFileDevice' | 'openDirtyLog'>;

/** Where front ends put what they need. */
export interface Places {
  runDir: string;
  /** Of the stable links, /dev/afterimage. */
  linkDir: string;
}

/** For the disk of a dirty log where production may be waiting; a busy one needs seconds. */
const AWAITED_OPENING_MS = 10_000;
/** Where nobody is served yet. */
const OPENING_MS = 600_000;

const NO_LATENCY: native.Latency = { counts: [], sumNs: 0n };
const NO_COUNTERS: native.DeviceCounters = {
  ...{ reads: 0n, readBytes: 0n, writes: 0n, writeBytes: 0n, errors: 0n },
  ...{ readLatency: NO_LATENCY, writeLatency: NO_LATENCY, flushLatency: NO_LATENCY },
};

export class ProtectedVolume {
  private captured: native.CapturedVolume | null = null;
  private attachment: Attachment | null = null;
  private use: VolumeUse | null = null;
  private attaching: Promise<void> | null = null;
  private detaching: Promise<void> | null = null;
  private connecting: Promise<void> | null = null;
  private hasConnected = false;
  /** Whether production ever was, here or at a predecessor's. */
  private wasLetIn = false;
  /** Over when the I/O of a mapped volume that a predecessor served has come to it, or does not any more. */
  private connected: Promise<void> | null = null;
  private readonly leaving = new AbortController();
  private unserved: AfterimageError | null = null;
  private custody: VolumeCustody | null = null;
  /** Its size as who uses it was shown it; null: nobody knows. */
  private shownSize: bigint | null = null;
  /** And as a successor would have it. */
  private keptSize = 0n;
  /** What is wrong with the size of its backing, or of its device; null: nothing. */
  sizeFault: AfterimageError | null = null;
  private closing: Promise<void> | null = null;
  private readonly errors = new BackingErrors();
  private toldLogFault = '';

  private constructor(
    readonly config: VolumeConfig,
    /** Since when the backing is an agent's alone, of a mapped volume; of others "". */
    private readonly insertion: string,
    /** Which device the backing is; null: nobody has looked yet. */
    private identity: string | null,
    /** What was opened. */
    private readonly sight: BackingSight,
    private described: VolumeInfo,
    private readonly stateDir: string,
    /** Whether it was never protected before. */
    readonly isNew: boolean,
    /** Whether the backing is as the last clean stop left it. */
    readonly evidence: BackingEvidence,
    private readonly backing: native.BlockDevice,
    /** What of it is in doubt. */
    readonly log: native.DirtyLog,
    private readonly door: VolumeDoor,
  ) {}

  /**
   * Takes the backing. `number` and `uuid` are the volume's in its member's stream; `memory` is what is remembered of
   * it, null for a new volume. Errors: as openBacking; VOLUME_NOT_INSERTED and those of MappedDevice.way of a mapped
   * volume; MEMORY_UNAVAILABLE.
   */
  static async open(
    config: VolumeConfig,
    identity: Pick<VolumeMemory, 'number' | 'uuid'>,
    memory: VolumeMemory | null,
    stateDir: string,
    door: VolumeDoor,
  ): Promise<ProtectedVolume> {
    const isNew = memory === null;
    const mapped = config.mapped === null ? null : new MappedDevice(config.mapped);
    if (mapped !== null) await refuseUnlessInserted(mapped);
    const found = evidenceOf(memory?.fingerprint ?? '', await backingFingerprint(config.backing));
    const device = await backingIdentity(config.backing);
    const backing = await openBacking(config, memory, device, stateDir, door.openFileDevice);
    const { size, blockSize } = backing;
    const info = { number: identity.number, uuid: identity.uuid, name: config.name, size, blockSize };
    try {
      // From here on it stays, since the backing is held.
      const insertion = (await mapped?.insertion()) ?? '';
      const sight = await backingSight(config.backing, null);
      const evidence = isNew ? found : await evidenceNow(found, memory, backing, insertion, device);
      const mayBeAwaited = mapped !== null || config.attach.kind === 'nbd';
      const patienceMs = mayBeAwaited ? AWAITED_OPENING_MS : OPENING_MS;
      const log = await openDirtyLog(stateDir, info, door.openDirtyLog, patienceMs);
      // A device that tells nothing of itself now is not another one.
      const known = device !== '' ? device : (memory?.identity ?? '');
      return new ProtectedVolume(
        config,
        insertion,
        known,
        sight,
        info,
        stateDir,
        isNew,
        evidence,
        backing,
        log,
        door,
      );
    } catch (thrown) {
      await backing.close();
      throw thrown;
    }
  }

  /**
   * What a predecessor served goes on: of the same size, whatever its backing has now. Errors: as openFileDevice;
   * BACKING_REPLACED; VOLUME_NOT_INSERTED where its I/O went past the agent since.
   */
  static async inherit({ settings }: InheritedVolume, door: VolumeDoor): Promise<ProtectedVolume> {
    const { name, number, uuid, size, blockSize, backing, mapped, cache, stateDir, sight } = settings;
    if (mapped !== null) await refuseUnlessStillInserted(mapped);
    const options = { path: backing, cache, readOnly: false, exclusive: true };
    // What is another's is not even opened, which would be noticed. A file is looked at where nobody waits for its disk.
    if (sight !== null && isDevice(sight)) await sightOfTheSame(backing, sight);
    const device = await door.reopenFileDevice(options, size, sight?.inode ?? 0n);
    const config = configOf(settings);
    const info = { number, uuid, name, size, blockSize };
    try {
      const now = await sightOfTheSame(backing, sight);
      const log = await openDirtyLog(stateDir, info, door.openDirtyLog, AWAITED_OPENING_MS);
      const insertion = mapped?.insertion ?? '';
      return new ProtectedVolume(
        config,
        insertion,
        null,
        now,
        info,
        stateDir,
        false,
        'none',
        device,
        log,
        door,
      );
    } catch (thrown) {
      await device.close();
      throw thrown;
    }
  }

  /** Its size is what production has been let in to. */
  get info(): VolumeInfo {
    return this.described;
  }
  get isUntouched(): boolean {
    return this.evidence === 'untouched';
  }
  get isCaptured(): boolean {
    return this.captured !== null;
  }
  /** Whoever finds its dirty log would believe it, and it lacks marks of what was written. */
  get hasStaleLog(): boolean {
    return this.isCaptured && this.wasLetIn && this.log.state().isStale;
  }
  get device(): native.CapturedVolume {
    if (this.captured === null) throw new Error(`volume ${this.config.name} is not captured yet`);
    return this.captured;
  }
  /** How a message names it. */
  get title(): string {
    return `volume ${this.config.name} (${this.config.backing})`;
  }
  /** Null: it is not captured yet. */
  get activity(): native.DeviceActivity | null {
    return this.captured?.activity() ?? null;
  }
  /** Requests since the start. */
  get counters(): native.DeviceCounters {
    return this.captured?.counters() ?? NO_COUNTERS;
  }
  /** Tells the log what its disks fail: of requests, and of marks. Ask again and again; `nowMs` never goes backwards. */
  tellErrors(log: Log, nowMs: number): void {
    if (this.captured !== null) this.errors.tell(this.counters.errors, this.title, log, nowMs);
    const { fault } = this.log.state();
    if (fault === '' || fault === this.toldLogFault) return;
    this.toldLogFault = fault;
    log.error(`the dirty log of ${this.title} is void, its next resync compares everything: ${fault}`);
  }
  /** Of its extents: what a crash now would put in doubt. */
  get doubtBytes(): bigint {
    const bytes = this.log.state().marked * BigInt(DIRTY_EXTENT_BYTES);
    return bytes < this.info.size ? bytes : this.info.size;
  }
  /** What the host uses, "" while nothing is attached. */
  get attachedAs(): string {
    return this.attachment?.device ?? '';
  }

  /** Who uses it now; null: nobody. Errors: those of Attachment.usedBy. */
  async presentUse(): Promise<string | null> {
    // Whoever uses the mapped device is not to be seen here, and would be left without a way to the disk.
    if (this.config.mapped !== null && this.attachment !== null) return this.config.mapped;
    return (await this.attachment?.usedBy()) ?? null;
  }

  /** Who keeps it from being taken away; null: nobody, or it is not to be taken away. */
  get usedBy(): string | null {
    return this.use?.by ?? null;
  }

  /** Why production could not be let in at the last attempt; null: it is, or nobody tried. */
  get failure(): AfterimageError | null {
    return this.unserved;
  }

  /** `inFlight`: a predecessor's table of writes in flight, or null. Errors: RING_LAYOUT, RING_UNAVAILABLE. */
  capture(group: native.CaptureGroup, inFlight: number | null = null): void {
    this.captured = group.addVolume(this.info.number, this.backing, this.log, inFlight);
  }

  /** Lets production in, if it is not in already. Errors: those of the front ends, and of MappedDevice.connect. */
  async attach(custody: GroupCustody, places: Places, clock: Clock, log: Log): Promise<void> {
    this.attaching ??= this.attachOnce(custody, places, clock, log).finally(() => (this.attaching = null));
    await this.attaching;
  }

  private async attachOnce(custody: GroupCustody, places: Places, clock: Clock, log: Log): Promise<void> {
    const { mapped } = this.config;
    if (this.attachment !== null && mapped === null) return;
    try {
      if (this.attachment === null) {
        const use = (this.use = new VolumeUse(this.config.name, clock, log));
        const { size } = this.info; // which may grow meanwhile
        this.attachment = await this.attachFrontEnd(custody, places, use, log);
        this.wasLetIn = true;
        this.keptSize = this.shownSize = size;
      }
      await this.connect();
      this.unserved = null;
    } catch (thrown) {
      this.unserved = toAfterimageError(thrown);
      throw this.unserved;
    }
  }

  /** Has the I/O of a mapped volume come to its device, if it is attached. Errors: those of MappedDevice.connect. */
  private connect(): Promise<void> {
    return (this.connecting ??= this.connectOnce().finally(() => (this.connecting = null)));
  }
  private async connectOnce(): Promise<void> {
    const { mapped } = this.config;
    if (mapped === null || this.attachment === null) return;
    const { device } = this.attachment;
    await new MappedDevice(mapped).connect(device, deviceNumber((await statOf(device)).rdev));
    this.hasConnected = true;
  }

  /** A predecessor may have been killed before it did. Until it is done, by whomever, or it is detached. Never rejects. */
  private async connectEventually(clock: Clock, log: Log): Promise<void> {
    const attempt = async (): Promise<AfterimageError | null> => {
      try {
        if (!this.hasConnected) await this.connect();
        return null;
      } catch (thrown) {
        return toAfterimageError(thrown);
      }
    };
    const failed = (err: AfterimageError): void =>
      log.error({ volume: this.config.name, err }, `the I/O of ${this.config.mapped} may not come to it yet`);
    const error = await attempt();
    if (error === null) return;
    failed(error);
    await retry(attempt, failed, clock, this.leaving.signal);
  }

  /** Bytes of its backing, as far as a volume can have them. Errors: BACKING_INVALID, IO_ERROR. */
  async measure(): Promise<bigint> {
    try {
      return await this.backing.remeasure();
    } catch (thrown) {
      const { code, message } = toAfterimageError(thrown);
      throw new AfterimageError(code, `${this.title}: ${message}`, { cause: thrown });
    }
  }
  /** As CapturedVolume.prepareGrowth; and a successor would serve it as large. */
  async prepareGrowth(bytes: bigint): Promise<void> {
    await this.device.prepareGrowth(bytes);
    this.custody?.growing();
    await this.keepSize(bytes);
  }
  /** As CapturedVolume.grow: whoever begins generations hears of it in the same turn. */
  grow(bytes: bigint): void {
    this.device.grow(bytes);
    this.described = { ...this.described, size: bytes };
    this.custody?.hasGrown();
  }
  /** Shows its size to whoever uses it, if that is not done. Errors: DEVICE_RESIZE, NBD_UNAVAILABLE. */
  async showSize(): Promise<void> {
    const { size } = this.info;
    if (this.attachment === null || this.shownSize === size) return;
    await this.keepSize(size);
    await this.attachment.grow(size);
    this.shownSize = size;
  }

  /**
   * Settles what a predecessor was writing, and serves production that it had let in. An NBD export that cannot listen is
   * attached later, as any other. Errors: those of resumeLoopDevice and resumeNbdDevice.
   */
  async resume(
    { settings, isGrowing, fuse, slots, listening }: InheritedVolume,
    /** All that the store has of it is right. */
    isKept: boolean,
    custody: GroupCustody,
    clock: Clock,
    log: Log,
  ): Promise<void> {
    this.wasLetIn = true;
    await this.device.settleInFlight();
    const { attachment } = settings;
    const use = (this.use = new VolumeUse(this.config.name, clock, log));
    const { device, door } = this;
    const kept = (this.custody = this.custodyIn(custody, attachment));
    this.keptSize = settings.size;
    // An export keeps all of itself anew.
    if (!isKept && attachment.kind !== 'socket') kept.replaceInFlight();
    if (attachment.kind === 'socket') {
      const { address } = attachment;
      const listen = (socket: number | null): Promise<Attachment> =>
        resumeSocket(settings.name, address, socket, isKept, device, door, use, kept);
      try {
        this.attachment = await listen(listening).catch((thrown: unknown) => {
          if (listening === null) throw thrown;
          log.warn(
            { volume: settings.name, err: toAfterimageError(thrown) },
            'it listens on a socket of its own',
          );
          return listen(null);
        });
      } catch (thrown) {
        kept.forget(); // nobody gets at it, so nobody would take it away either
        log.error(
          { volume: settings.name, err: toAfterimageError(thrown) },
          'its clients cannot connect yet',
        );
      }
    } else if (attachment.kind === 'nbd') {
      this.attachment = await resumeNbdDevice(attachment, device, door, use, kept);
    } else {
      const session = { fuse: fuse as number, slots };
      this.attachment = await resumeLoopDevice(attachment, session, device, door, use, kept, log);
    }
    if (isGrowing) kept.hasGrown(); // by now, and no stream that was begun before is open
    this.connected = this.connectEventually(clock, log);
  }

  /**
   * Ends production's way in, once nobody uses it or `end` aborts. After an error it can be asked for again. Errors: those
   * of the front ends.
   */
  async detach(end: AbortSignal): Promise<void> {
    this.detaching ??= this.detachFrontEnd(end).finally(() => (this.detaching = null));
    await this.detaching;
  }

  /** The same at once; false: somebody uses it, and goes on. Errors: those of the front end, whose device is gone then. */
  async detachUnused(): Promise<boolean> {
    if (this.detaching !== null || this.attaching !== null) return false;
    if (this.attachment === null) return true;
    const finish = await this.attachment.detachUnused();
    if (finish === null) return false;
    this.attachment = null;
    await finish();
    return true;
  }

  /** Makes what was written durable on the backing. Errors: IO_ERROR. */
  async flush(): Promise<void> {
    try {
      await this.captured?.flush();
    } catch (thrown) {
      const { code, message } = toAfterimageError(thrown);
      throw new AfterimageError(code, `${this.title} at its flush: ${message}`, { cause: thrown });
    }
  }

  /** Nothing is left in doubt, if all is at the receiver. Production writes no more. Errors: IO_ERROR. */
  async cleanUp(): Promise<void> {
    await this.captured?.cleanUp();
  }

  /**
   * What is to be remembered of it; `clean`: nothing but the agent has written to it, and the agent writes no more. Once it
   * is closed, others may write.
   */
  async remember(clean: boolean): Promise<VolumeMemory> {
    const { number, uuid, size } = this.info;
    const { insertion } = this;
    const { backing } = this.config;
    const isHeld = clean && this.closing === null;
    const samples = isHeld ? await backingSamples(this.backing, size) : '';
    const fingerprint = isHeld ? await backingFingerprint(backing) : '';
    const identity = (this.identity ??= await backingIdentity(backing));
    return { number, uuid, size, backing, fingerprint, samples, identity, insertion };
  }

  /** Gives the backing back, once. Nothing is attached any more. */
  close(): Promise<void> {
    return (this.closing ??= this.closeOnce());
  }

  private async closeOnce(): Promise<void> {
    const { captured } = this;
    this.captured = null; // a status that is asked for meanwhile finds it gone
    await endAll(
      () => (captured === null ? [] : [captured.close()]),
      () => [this.backing.close(), this.log.end()],
    );
  }

  private async keepSize(size: bigint): Promise<void> {
    if (this.keptSize === size) return;
    await this.custody?.grown(size);
    this.keptSize = size;
  }

  /** `inherited`: as what a predecessor served it; null: it did not. */
  private custodyIn(custody: GroupCustody, inherited: AttachmentSettings | null): VolumeCustody {
    const { insertion, stateDir, sight } = this;
    const { backing, cache, mapped: device } = this.config;
    const mapped = device === null ? null : { device, insertion };
    const volume = { ...this.info, backing, mapped, cache, stateDir, sight };
    return custody.volume(volume, this.device, inherited);
  }

  private attachFrontEnd(
    custody: GroupCustody,
    places: Places,
    use: VolumeUse,
    log: Log,
  ): Promise<Attachment> {
    const { device, door } = this;
    const { name, attach } = this.config;
    const kept = (this.custody = this.custodyIn(custody, null));
    if (attach.kind === 'socket') return attachSocket(name, attach.address, device, door, use, kept);
    const link = path.join(places.linkDir, custody.name, name);
    if (attach.kind === 'nbd')
      return attachNbdDevice(link, nbdBackend(this.info.uuid), device, door, use, kept, log);
    const loopPlaces = { mountPoint: servedAt(places.runDir, custody.name, name), link };
    return attachLoopDevice(loopPlaces, attach.threads, device, door, use, kept, log);
  }

  private async detachFrontEnd(end: AbortSignal): Promise<void> {
    this.leaving.abort();
    await Promise.race([this.connected, aborted(end)]);
    await this.attachment?.detach(end);
    this.attachment = null;
  }
}

/** `found`: what its fingerprint says. */
async function evidenceNow(
  found: BackingEvidence,
  memory: VolumeMemory,
  backing: native.BlockDevice,
  insertion: string,
  identity: string,
): Promise<BackingEvidence> {
  if (memory.insertion !== insertion || isOtherDevice(memory.identity, identity)) return 'changed';
  const { samples, size } = memory;
  return samples === '' ? found : evidenceOfSamples(found, samples, await backingSamples(backing, size));
}

/** `before`: what a predecessor had opened there; null: nobody knows. Errors: BACKING_REPLACED, those of backingSight. */
async function sightOfTheSame(backing: string, before: BackingSight | null): Promise<BackingSight> {
  const now = await backingSight(backing, before);
  if (before === null || !isOtherBacking(before, now)) return now;
  throw new AfterimageError('BACKING_REPLACED', `${backing} is not what the agent served that died`);
}

/** As the configuration would have it. */
export function configOf({ name, backing, cache, mapped, attachment }: VolumeSettings): VolumeConfig {
  return { name, backing, cache, mapped: mapped?.device ?? null, attach: attachOf(attachment) };
}

function attachOf(attachment: AttachmentSettings): AttachConfig {
  if (attachment.kind === 'loop') return { kind: 'loop', threads: attachment.threads };
  return attachment.kind === 'nbd' ? { kind: 'nbd' } : { kind: 'socket', address: attachment.address };
}

/** Errors: VOLUME_NOT_INSERTED, those of MappedDevice.way. */
async function refuseUnlessInserted(device: MappedDevice): Promise<void> {
  const { kind } = await device.way();
  if (kind === 'waiting' || kind === 'through') return;
  throw new AfterimageError('VOLUME_NOT_INSERTED', `no protection is under ${device.mapped}`);
}

/** Where that cannot be found out production is served: nobody else has the backing open. Errors: VOLUME_NOT_INSERTED. */
async function refuseUnlessStillInserted(mapped: { device: string; insertion: string }): Promise<void> {
  const now = await new MappedDevice(mapped.device).insertion().catch(() => mapped.insertion);
  if (now === mapped.insertion) return;
  throw new AfterimageError('VOLUME_NOT_INSERTED', `protection was taken out from under ${mapped.device}`);
}
