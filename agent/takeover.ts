/**
 * The first thing that an agent does: production that a predecessor served is served again, from what that left in the
 * descriptor store and nothing else. Neither the configuration nor the state directory is read before, since whatever is
 * wrong with them must not keep production waiting.
 */
import { closeSync } from 'node:fs';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';
import type { Clock } from './clock.js';
import type { VolumeConfig } from './config.js';
import { GroupCustody, type StoreDoor } from './custody.js';
import type { UsedVolume } from './device_use.js';
import { Deliveries } from './deliveries.js';
import { endAll } from './endings.js';
import type { InheritedGroup, InheritedVolume } from './inheritance.js';
import { RING_BYTES_MIN, UNMARK_AFTER_MS } from './served_bounds.js';
import type { GroupSettings } from './served_settings.js';
import type { InheritedStream } from './session_events.js';
import { logsWithdrawn } from './stale_logs.js';
import type { ProtectedVolume, VolumeDoor } from './volume.js';
import { VolumeTakeover } from './volume_takeover.js';

export type TakeoverDoor = VolumeDoor &
  StoreDoor &
  Pick<typeof native, 'createCaptureGroup' | 'adoptCaptureGroup'>;

/** What else there is to do waits for so long for a backing that does not answer. */
const FIRST_ATTEMPTS_MS_MAX = 2_000;

/** A group whose production is served, and which has no session yet. */
export class TakenGroup {
  /** To whoever protects the group; also to one that begins again after an error. */
  readonly deliveries: Deliveries;
  private readonly takeovers: readonly VolumeTakeover[];

  private constructor(
    readonly settings: GroupSettings,
    readonly custody: GroupCustody,
    readonly captureGroup: native.CaptureGroup,
    /** Whether the ring is the predecessor's. */
    readonly isContinued: boolean,
    volumes: readonly InheritedVolume[],
    door: TakeoverDoor,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    this.deliveries = new Deliveries(captureGroup);
    this.takeovers = volumes.map(
      (volume) => new VolumeTakeover(volume, captureGroup, custody, door, clock, log),
    );
  }

  /** Serves nothing yet. Errors: RING_UNAVAILABLE when there is not even memory for a small ring. */
  static open(inherited: InheritedGroup, door: TakeoverDoor, clock: Clock, log: Log): TakenGroup {
    const { settings, volumes } = inherited;
    const custody = new GroupCustody(door, settings, log);
    const { captureGroup, isContinued } = openRing(inherited, custody, door, log);
    return new TakenGroup(settings, custody, captureGroup, isContinued, volumes, door, clock, log);
  }

  /** Serves the volumes. Those that cannot be after a first attempt are as soon as they can. Never rejects. */
  async serve(): Promise<void> {
    const firsts = Promise.all(this.takeovers.map((one) => one.begin()));
    const enough = new AbortController();
    const late = this.clock.sleep(FIRST_ATTEMPTS_MS_MAX, enough.signal).catch(() => undefined);
    await Promise.race([firsts, late]);
    enough.abort();
  }

  /** Those that are served. */
  get volumes(): ProtectedVolume[] {
    return this.takeovers.flatMap(({ volume }) => volume ?? []);
  }
  /** Of all that somebody has, served or not yet. */
  get claimed(): UsedVolume[] {
    return this.takeovers.flatMap(({ config, volume, failure }) => {
      if (volume !== null) return volume;
      // Whoever has it waits for it.
      return failure === null ? [] : { config, attachedAs: '', presentUse: () => Promise.reject(failure) };
    });
  }
  /** Of all volumes, served or not. */
  get configs(): VolumeConfig[] {
    return this.takeovers.map(({ config }) => config);
  }
  /** A session has all volumes of its group. Errors: of the first volume that cannot be served yet. */
  refuseUnlessWhole(): void {
    for (const { failure } of this.takeovers) if (failure !== null) throw failure;
  }

  /**
   * Takes the group away from the host: each volume once it is served and nobody uses it, or `end` aborts. It got no
   * session. Errors: the first of those of the front ends.
   */
  async letGo(end: AbortSignal): Promise<void> {
    const { captureGroup, custody, clock, log } = this;
    const stale = (): ProtectedVolume[] => this.volumes.filter((volume) => volume.hasStaleLog);
    await endAll(
      () =>
        this.takeovers.map(async (one) => {
          await one.settled(end);
          await one.volume?.detach(end);
        }),
      () => [logsWithdrawn(stale, clock, log, end)],
      () => this.volumes.map((volume) => volume.close()),
      () => [captureGroup.close()],
    ).finally(() => custody.forgetRing());
  }
}

export interface InheritedRing {
  isContinued: boolean;
  captureGroup: {
    stats(): Pick<
      native.CaptureStats,
      'generation' | 'streaming' | 'capturedLsn' | 'releasedLsn' | 'lsnCeiling'
    >;
  };
}

/**
 * The stream that its session may go on with; null: there is none. One that has ended, and of which the ring holds nothing,
 * is none: a predecessor that had given it up has released what the receiver never had.
 */
export function inheritedStream({ captureGroup, isContinued }: InheritedRing): InheritedStream | null {
  const { generation, streaming, capturedLsn, releasedLsn, lsnCeiling } = captureGroup.stats();
  if (!isContinued || generation === 0n || (!streaming && capturedLsn === releasedLsn)) return null;
  return { generation, capturedLsn, releasedLsn, lsnCeiling, hasEnded: !streaming };
}

function openRing(
  { settings, ring, isRingSuspect }: InheritedGroup,
  custody: GroupCustody,
  door: TakeoverDoor,
  log: Log,
): { captureGroup: native.CaptureGroup; isContinued: boolean } {
  const { uuid: group, member, ringBytes, lingerUs, unmarkAfterMs, spool } = settings;
  const options = {
    ...{ group, member, ringBytes, lingerUs, spool, lastTimeNs: 0n, era: 1 },
    unmarkAfterMs: unmarkAfterMs ?? UNMARK_AFTER_MS,
  };
  try {
    if (ring !== null && !isRingSuspect)
      return { captureGroup: door.adoptCaptureGroup(options, ring), isContinued: true };
    log.error('the capture ring is not gone on with: what was captured and not sent is lost');
  } catch (thrown) {
    log.error({ err: toAfterimageError(thrown) }, 'the capture ring cannot be gone on with');
  } finally {
    if (ring !== null) closeSync(ring);
  }
  custody.forgetRing();
  const captureGroup = newRing(options, door, log);
  custody.keepRing(captureGroup);
  return { captureGroup, isContinued: false };
}

/** Production must be served even where there is no memory for the history of it. */
function newRing(options: native.CaptureGroupOptions, door: TakeoverDoor, log: Log): native.CaptureGroup {
  try {
    return door.createCaptureGroup(options);
  } catch (thrown) {
    log.error({ err: toAfterimageError(thrown) }, 'a smaller capture ring has to do');
    return door.createCaptureGroup({ ...options, ringBytes: RING_BYTES_MIN });
  }
}
