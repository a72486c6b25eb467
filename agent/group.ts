/**
 * One protection group on this host: puts its parts together, starts them so that production is served first, and
 * stops them so that nothing is in doubt afterwards.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { formatUuid } from '../proto/uuid.js';
import type {
  CheckpointInfo,
  DeviceUse,
  GroupStatus,
  VerificationProgress,
  VerificationRequest,
} from '../proto/control.js';
import type { Log } from '../service/log.js';
import { aborted } from '../service/signals.js';
import type * as native from '../native/index.js';
import type { CapturedVolumes } from './capture_work.js';
import type { Clock } from './clock.js';
import type { GroupConfig, VolumeConfig } from './config.js';
import { GroupCustody, type StoreDoor } from './custody.js';
import { Deliveries } from './deliveries.js';
import { endAll } from './endings.js';
import type { ReceiverEndpoint } from './endpoint.js';
import { Growth } from './growth.js';
import type { StartedGroup } from './groups.js';
import { groupStatus } from './group_status.js';
import { LagHistogram } from './lag.js';
import { ReceiverLink } from './link.js';
import type { VolumeLatencies } from './metrics.js';
import { Member, type MemberPort, type OpenAction } from './member.js';
import { openVolumes } from './opened_volumes.js';
import { PresentVolumes } from './present_volumes.js';
import { AgentSession } from './session.js';
import { Serving } from './serving.js';
import type { InheritedStream, MemberIdentity, StoredState } from './session_events.js';
import { logsWithdrawn } from './stale_logs.js';
import { StopPatience } from './stop_patience.js';
import { SpoolReport } from './spool_report.js';
import { MemberState, type MemberMemory } from './state.js';
import { inheritedStream, type TakenGroup } from './takeover.js';
import { VERIFY_RATE_DEFAULT } from './verification.js';
import type { VolumeActivity } from './watchdog.js';
import type { Places, ProtectedVolume, VolumeDoor } from './volume.js';
import { VolumeChanges, type Reshaped } from './volume_changes.js';

const DRAIN_POLL_MS = 50;
/**
 * A session that failed is replaced after so long; twice as long each time, since the defect may come again. A session
 * that protected its volumes, or lived for the longest pause, did what one is for: the next defect is another one.
 */
const RESTART_MS_MIN = 30_000;
const RESTART_MS_MAX = 3_600_000;
const UUID_BYTES = 16;

/** What a group needs of the world. */
export interface GroupSurroundings {
  door: VolumeDoor & StoreDoor & Pick<typeof native, 'createCaptureGroup'>;
  receiver: ReceiverEndpoint;
  stateDir: string;
  /** Of all groups; null: none has a spool. */
  spoolDir: string | null;
  places: Places;
  host: string;
  software: string;
  /** 16 random bytes of this process. */
  instance: Buffer;
  clock: Clock;
  log: Log;
  /** Aborted when stopping must not wait for anybody any more. */
  end: AbortSignal;
}

export class ProtectionGroup implements MemberPort, StartedGroup {
  private current: Member;
  readonly lag: LagHistogram;
  private link: ReceiverLink;
  private captureGroup: native.CaptureGroup | null;
  private onServed: (error: AfterimageError | null) => void = () => undefined;
  /** Resolves when the session has ended, which it may do by itself: with what it says of the next start. */
  private readonly ended: Promise<boolean>;
  private onStopped!: (clean: boolean) => void;
  private deliveries: Deliveries | null = null;
  private readonly serving: Serving;
  private readonly growth: Growth;
  private readonly spoolReport: SpoolReport;
  private readonly changes: VolumeChanges<ProtectedVolume>;
  private readonly stopping = new AbortController();
  private restartMs = RESTART_MS_MIN;
  private sessionBegunMs: number;
  private isStopped = false;
  private stopResult: Promise<boolean> | null = null;
  private withdrawn: Promise<void> | null = null;
  /** Whether a stop gives the backings back before it sends the rest. */
  private isReleasing = false;
  private isQuiescent = false;
  private readonly givenBack: Promise<void>;
  private onGivenBack!: () => void;
  /** The epoch of a session is on its way to stable storage. */
  private isOpening = false;
  private readonly startedNs: bigint;

  private constructor(
    readonly config: GroupConfig,
    readonly state: MemberState,
    private readonly present: PresentVolumes,
    private readonly custody: GroupCustody,
    private readonly taken: TakenGroup | null,
    private readonly around: GroupSurroundings,
  ) {
    const { clock, log, places } = around;
    this.captureGroup = taken?.captureGroup ?? null;
    this.serving = new Serving(custody, present.all, places, clock, log);
    const sizes = {
      grown: () => this.current.reshaped(present.infos, present.logs),
      doubt: () => this.captureGroup?.closeStream(),
    };
    this.growth = new Growth(present.all, sizes, log);
    const port = {
      volumes: present.all,
      open: (configs: readonly VolumeConfig[]) => present.open(configs),
      giveBack: (volumes: readonly ProtectedVolume[]) => present.giveBack(volumes),
      add: (volumes: readonly ProtectedVolume[]) => this.add(volumes),
      serve: () => this.serving.serve(),
      remove: (volume: ProtectedVolume) => this.remove(volume),
    };
    this.changes = new VolumeChanges(port, clock, log);
    this.spoolReport = new SpoolReport(log);
    this.ended = new Promise((resolve) => (this.onStopped = resolve));
    this.givenBack = new Promise((resolve) => (this.onGivenBack = resolve));
    this.startedNs = clock.nowNs();
    this.sessionBegunMs = clock.monotonicMs();
    this.lag = new LagHistogram(() => clock.monotonicMs());
    this.current = new Member(new AgentSession(), this, this.lag, clock, log);
    this.link = new ReceiverLink(around.receiver, clock, this.current);
  }

  get volumes(): readonly ProtectedVolume[] {
    return this.present.all;
  }

  get member(): Member {
    return this.current;
  }

  /**
   * Serves the volumes of `config`; resolves as soon as production is let in, whether the receiver is there or not.
   * `taken`: what is served already since a predecessor served it, and is this group's from here on, unless the state
   * cannot be read, a backing be opened, or one of its volumes be served yet. Errors: STATE_INVALID, VOLUME_LIMIT,
   * RING_UNAVAILABLE, IO_ERROR, those of backings and front ends.
   */
  static async start(
    config: GroupConfig,
    around: GroupSurroundings,
    taken: TakenGroup | null = null,
  ): Promise<ProtectionGroup> {
    const state = await MemberState.open(around.stateDir, config.name, around.host, () =>
      randomBytes(UUID_BYTES),
    );
    if (taken !== null) refuseOtherMember(taken, state);
    taken?.refuseUnlessWhole();
    const volumes = await openVolumes(config, state, taken?.volumes ?? [], around);
    const present = new PresentVolumes(config, volumes, state, around);
    const custody = taken?.custody ?? custodyOf(config, state, around);
    const group = new ProtectionGroup(config, state, present, custody, taken, around);
    try {
      await group.begin();
      group.changes.leave(config.volumes);
      return group;
    } catch (thrown) {
      // What production uses stays, and whoever tries again gets it.
      if (taken !== null) {
        await group.forsake();
        throw thrown;
      }
      // As a stop like any other: what was clean before is clean after it.
      await group.stop().catch((error: unknown) => around.log.error({ err: error }, 'after a failed start'));
      throw thrown;
    }
  }

  /**
   * Stops: production's way in first, when nobody uses it any more; then what was captured is made durable at the
   * receiver, if it can be in time. Tells whether the next start can go on where this one ended.
   */
  stop(): Promise<boolean> {
    return (this.stopResult ??= this.stopOnce());
  }

  /** Begins a stop, and resolves when the backings are given back: what was captured is sent after that. Never rejects. */
  async release(): Promise<void> {
    this.isReleasing = true;
    const stopped = this.stop().catch(() => undefined);
    if (this.isQuiescent) await this.giveBack();
    await Promise.race([this.givenBack, stopped]);
  }

  private async stopOnce(): Promise<boolean> {
    this.stopping.abort();
    await this.growth.stop();
    await Promise.race([this.changes.stop(), aborted(this.around.end)]);
    try {
      if (this.member.requestStop()) return await this.ended;
      await this.quiesce();
      return false;
    } finally {
      await this.close();
    }
  }

  /** StartedGroup.reshape */
  reshape(configs: readonly VolumeConfig[]): Promise<Reshaped> {
    return this.changes.take(configs);
  }

  /** A generation has the volumes that it began with. */
  private add(volumes: readonly ProtectedVolume[]): void {
    const { captureGroup } = this;
    if (captureGroup === null) throw new AfterimageError('CLOSED', 'the group is not served yet');
    for (const volume of volumes) volume.capture(captureGroup);
    captureGroup.closeStream();
    this.present.join(volumes);
    this.otherVolumes();
  }

  private async remove(volume: ProtectedVolume): Promise<boolean> {
    if (volume.hasStaleLog && !this.member.session.knowsVoid(volume.info.number)) {
      const message = `the dirty log of ${volume.title} says too little, and its disk takes no changes`;
      throw new AfterimageError('IO_ERROR', message);
    }
    if (!(await this.serving.removeUnused(volume))) return false;
    const memory = await this.present.settle(volume);
    this.captureGroup?.closeStream();
    this.present.drop(volume);
    this.otherVolumes();
    await this.present.close(volume, memory);
    return true;
  }

  private otherVolumes(): void {
    if (!this.isConnected)
      this.around.log.warn(
        'the volumes change while the receiver is away: history has a gap until it is back',
      );
    this.current.reshaped(this.present.infos, this.present.logs);
  }

  /** Errors: of the first volume that cannot be served. */
  async ensureServed(): Promise<void> {
    await this.serving.ensure();
  }

  get isConnected(): boolean {
    return this.member.report.isConnected;
  }

  status(): GroupStatus {
    const { member, volumes, lag, around, startedNs } = this;
    const { memory } = this.state;
    return groupStatus({
      name: this.config.name,
      memory,
      member,
      volumes,
      lag,
      clock: around.clock,
      startedNs,
    });
  }

  latencies(): VolumeLatencies[] {
    return this.present.latencies();
  }

  activities(): VolumeActivity[] {
    return this.present.activities();
  }

  uses(): Promise<DeviceUse[]> {
    return this.present.uses();
  }

  /** Errors: CHECKPOINT_INVALID, CHECKPOINT_EXISTS, CHECKPOINT_PENDING, and why the receiver could not be asked. */
  async createCheckpoint(name: string): Promise<CheckpointInfo> {
    const { lsn, timeNs } = await this.member.checkpoints.create(name);
    return {
      name,
      group: this.config.name,
      lsn,
      timeNs,
      consistency: 'crash',
      grade: 'ordered',
      pinned: false,
      lockedUntilNs: 0n,
    };
  }

  /**
   * `volume` "": all of them. `rateMax` 0n: the default. Errors: VOLUME_UNKNOWN, those of Verification.run.
   */
  verify(
    { volume: name, repair, rateMax }: Omit<VerificationRequest, 'group'>,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    const volumes = this.volumes
      .map(({ info: { number, name, size } }) => ({ number, name, size }))
      .filter((volume) => name === '' || volume.name === name);
    if (volumes.length === 0) {
      const known = this.volumes.map(({ info }) => info.name).join(', ');
      throw new AfterimageError(
        'VOLUME_UNKNOWN',
        `${this.config.name} has no volume ${name} here; it has ${known}`,
      );
    }
    const options = { repair, rateMax: rateMax === 0n ? VERIFY_RATE_DEFAULT : rateMax };
    const stop = AbortSignal.any([signal, this.stopping.signal]);
    return this.member.verification.run(volumes, options, stop);
  }

  // --- MemberPort ---

  async persist(stream: StoredState): Promise<void> {
    try {
      // Those that are being given back are not read any more.
      await this.present.persist(stream, this.isQuiescent && !this.isReleasing);
    } catch (thrown) {
      if (this.isOpening) this.unopened(thrown);
      throw thrown; // a later one costs history only
    }
  }

  /** Without an epoch there is no session: the start is over, or another session begins later. */
  private unopened(thrown: unknown): void {
    if (this.deliveries === null) this.onServed(toAfterimageError(thrown));
    else this.member.fail(thrown);
  }

  capture(action: OpenAction): CapturedVolumes {
    this.isOpening = false;
    const { resume, goesOn, lastTimeNs, era } = action;
    const group = this.captureGroup ?? this.createCaptureGroup(action);
    this.present.capture(group);
    if (goesOn && resume !== null) group.resumeGeneration(resume.epoch, resume.lsnCeiling);
    // What a session before has left of its stream: the new one compares, and begins a generation of its own.
    else if (group === this.captureGroup) {
      group.abandonStream();
      // A ring that was not gone on with begins anew, and the member's records do not.
      group.resumeClock(lastTimeNs, era);
    }
    this.captureGroup = group;
    this.deliveries ??= this.taken?.deliveries ?? new Deliveries(group);
    const syncRateMax = this.config.resyncRateMax;
    return { group, syncRateMax, deliveries: this.deliveries, volumes: this.present.captured };
  }

  private createCaptureGroup({ lastTimeNs, era, resume }: OpenAction): native.CaptureGroup {
    const { ringBytes, lingerUs, unmarkAfterMs } = this.config;
    const { group: uuid, member } = this.state.memory;
    const group = this.around.door.createCaptureGroup({
      group: uuid,
      member,
      ringBytes,
      lingerUs,
      unmarkAfterMs,
      lastTimeNs,
      era,
      spool: spoolOf(this.config, this.state.memory),
    });
    this.custody.keepRing(group);
    if (resume !== null) group.beginGeneration(resume);
    return group;
  }

  serve(): Promise<void> {
    return this.serving.begin();
  }

  ticked(): void {
    this.present.tellErrors(this.volumes);
    if (this.captureGroup !== null) this.spoolReport.tell(this.captureGroup.stats());
    this.growth.look();
  }

  served(error: AfterimageError | null): void {
    this.onServed(error);
  }

  async quiesce(): Promise<void> {
    await this.serving.end(this.around.end);
    await this.logsWithdrawn();
    if (this.isStopped) return; // the session has failed meanwhile, and the volumes are being closed
    await Promise.all(this.volumes.map((volume) => volume.flush()));
    void this.expireStop();
  }

  /** Once: what a clean end does to a log thereafter leaves it with more marks than it needs, and not with fewer. */
  private logsWithdrawn(): Promise<void> {
    const { clock, log, end } = this.around;
    return (this.withdrawn ??= logsWithdrawn(() => this.staleVolumes(), clock, log, end));
  }

  /**
   * Not those that the receiver believes no more; nor when protection is taken out, after which all is compared. Should that
   * be cut off, this process knows that the log was stale when it is put in again (native/capture/path_turn.h).
   */
  private staleVolumes(): ProtectedVolume[] {
    if (this.isReleasing) return [];
    const { session } = this.member;
    return this.volumes.filter((volume) => volume.hasStaleLog && !session.knowsVoid(volume.info.number));
  }

  async quiesced(): Promise<void> {
    this.isQuiescent = true;
    if (this.isReleasing) await this.giveBack();
  }

  private async giveBack(): Promise<void> {
    await endAll(() => this.volumes.map((volume) => volume.close())).finally(this.onGivenBack);
  }

  stopped(clean: boolean): void {
    this.isStopped = true;
    this.onStopped(clean);
  }

  failed(): void {
    if (this.stopping.signal.aborted) this.stopped(false);
    else void this.restart();
  }

  /** The epoch rises and is on stable storage before anything else happens; then production is served. */
  private async begin(): Promise<void> {
    const { stream } = this.state.memory;
    const isUntouched = this.volumes.every((volume) => volume.isUntouched);
    const { log } = this.around;
    if (
      stream?.clean === true &&
      !isUntouched &&
      this.volumes.every(({ evidence }) => evidence !== 'changed')
    )
      log.info('nothing tells whether a backing was changed: samples are compared');
    // On stable storage before the state says that the agent has it, or that it ended uncleanly.
    await this.present.doubt(this.volumes, stream?.volumes ?? []);
    const stored = stream === null ? null : { ...stream, clean: stream.clean && isUntouched };
    await new Promise<void>((resolve, reject) => {
      this.onServed = (error) => (error === null ? resolve() : reject(error));
      this.isOpening = true;
      const event = {
        stored,
        identity: this.identity(),
        logs: this.present.logs,
        inherited: this.inherited(),
      };
      this.member.start({ type: 'started', ...event }, this.link);
    });
  }

  /** Null: the stream ends, since of a volume that is not a predecessor's nobody knows what was being written. */
  private inherited(): InheritedStream | null {
    const { taken } = this;
    if (taken === null || this.volumes.some((volume) => !taken.volumes.includes(volume))) return null;
    return inheritedStream(taken);
  }

  /** Ends what was begun, and nothing that serves production. */
  private async forsake(): Promise<void> {
    this.isStopped = true;
    this.stopping.abort();
    this.member.end();
    this.deliveries?.forsake();
    this.link.close();
    const taken = this.taken?.volumes ?? [];
    await this.growth.stop();
    await this.present.giveBack(this.volumes.filter((volume) => !taken.includes(volume)));
  }

  private identity(): MemberIdentity {
    const { group, member } = this.state.memory;
    const { host, software, instance } = this.around;
    const volumes = this.present.infos;
    return { software, group, groupName: this.config.name, member, host, instance, volumes };
  }

  /** Another session in the place of the one that failed, as a start after a crash. Never rejects. */
  private async restart(): Promise<void> {
    const { clock, log, receiver } = this.around;
    const livedMs = clock.monotonicMs() - this.sessionBegunMs;
    if (this.member.wasProtected || livedMs >= RESTART_MS_MAX) this.restartMs = RESTART_MS_MIN;
    const pauseMs = this.restartMs;
    this.restartMs = Math.min(pauseMs * 2, RESTART_MS_MAX);
    await clock.sleep(pauseMs, this.stopping.signal).catch(() => undefined);
    if (this.stopping.signal.aborted) return;
    log.warn('a new session begins in the place of the one that failed: it compares with the receiver');
    this.link.close();
    this.sessionBegunMs = clock.monotonicMs();
    this.current = new Member(new AgentSession(), this, this.lag, clock, log);
    this.link = new ReceiverLink(receiver, clock, this.current);
    const { stream } = this.state.memory;
    const stored = stream === null ? null : { ...stream, clean: false };
    const begun = { stored, identity: this.identity(), logs: this.present.logs, inherited: null };
    this.isOpening = true;
    this.current.start({ type: 'started', ...begun }, this.link);
  }

  /** Ends the wait for the receiver when its time is over. Never rejects. */
  private async expireStop(): Promise<void> {
    const { clock, end } = this.around;
    const patience = new StopPatience(clock.monotonicMs());
    while (!this.isStopped) {
      const { durable } = this.member.session.marks;
      const isOver = patience.isOver(clock.monotonicMs(), durable, this.isConnected);
      if (end.aborted || isOver) return this.member.expireStop();
      await clock.sleep(DRAIN_POLL_MS, end).catch(() => undefined);
    }
  }

  private async close(): Promise<void> {
    this.isStopped = true;
    this.member.end();
    this.link.close();
    const { captureGroup } = this;
    // Whatever becomes of one: a backing that stayed open would keep the next attempt out. A session that has failed did
    // not take production's way in away, nor wait for what may say too little of it.
    await endAll(
      () => [this.serving.end(this.around.end)],
      () => [this.logsWithdrawn()],
      () => this.volumes.map((volume) => volume.close()),
      () => (captureGroup === null ? [] : [captureGroup.close()]),
    ).finally(() => this.custody.forgetRing());
  }
}

/** LSNs of one member in the stream of another would be taken for its own. */
function refuseOtherMember({ settings }: TakenGroup, { memory }: MemberState): void {
  if (memory.group.equals(settings.uuid) && memory.member.equals(settings.member)) return;
  throw new AfterimageError(
    'STATE_INVALID',
    `the state of ${settings.name} is not that of the agent that served its volumes before; ` +
      'they are served, and not protected until the agent has been stopped in good order',
  );
}

function custodyOf(
  config: GroupConfig,
  { memory }: MemberState,
  { door, log }: GroupSurroundings,
): GroupCustody {
  const { name, ringBytes, lingerUs, unmarkAfterMs } = config;
  const { group: uuid, member } = memory;
  const spool = spoolOf(config, memory);
  return new GroupCustody(door, { name, uuid, member, ringBytes, lingerUs, unmarkAfterMs, spool }, log);
}

/** A directory of the member's own: nobody else's files are to be found there. */
function spoolOf({ spool }: GroupConfig, { group, member }: MemberMemory): native.SpoolOptions | null {
  if (spool === null) return null;
  const { directory, bytesMax } = spool;
  return { directory: path.join(directory, formatUuid(group), formatUuid(member)), bytesMax };
}
