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
import { GroupCustody, type StoreDoor } from './custody.js';
import { Deliveries } from './deliveries.js';
import { endAll } from './endings.js';
import type { InheritedGroup, InheritedVolume } from './inheritance.js';
import { RING_BYTES_MIN } from './served_bounds.js';
import type { GroupSettings } from './served_settings.js';
import type { InheritedStream } from './session_events.js';
import { ProtectedVolume, type VolumeDoor } from './volume.js';

export type TakeoverDoor = VolumeDoor &
  StoreDoor &
  Pick<typeof native, 'createCaptureGroup' | 'adoptCaptureGroup'>;

const RETRY_MS = 200;
const LOG_EVERY = 25;

/** A group whose production is served, and which has no session yet. */
export interface TakenGroup {
  settings: GroupSettings;
  custody: GroupCustody;
  captureGroup: native.CaptureGroup;
  /** Of captureGroup, to whoever protects the group; also to one that begins again after an error. */
  deliveries: Deliveries;
  /** Whether the ring is the predecessor's. */
  isContinued: boolean;
  volumes: readonly ProtectedVolume[];
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
 * Serves the volumes of `inherited`, however long one of their backings has to be waited for: whoever uses it waits too.
 * `end` ends that wait. Errors: RING_UNAVAILABLE when there is not even memory for a small ring; INTERRUPTED.
 */
export async function takeOver(
  inherited: InheritedGroup,
  door: TakeoverDoor,
  clock: Clock,
  log: Log,
  end: AbortSignal,
): Promise<TakenGroup> {
  const { settings } = inherited;
  const custody = new GroupCustody(door, settings, log);
  const { captureGroup, isContinued } = openRing(inherited, custody, door, log);
  const volumes = await Promise.all(
    inherited.volumes.map((volume) => resume(volume, captureGroup, custody, door, clock, log, end)),
  );
  return {
    ...{ settings, custody, captureGroup, isContinued, deliveries: new Deliveries(captureGroup) },
    volumes: volumes.filter((one) => one !== null),
  };
}

/**
 * The stream that its session may go on with; null: there is none. One that has ended, and of which the ring holds nothing,
 * is none: a predecessor that had given it up has released what the receiver never had.
 */
export function inheritedStream({ captureGroup, isContinued }: InheritedRing): InheritedStream | null {
  const { generation, streaming, capturedLsn, releasedLsn, lsnCeiling } = captureGroup.stats();
  if (!isContinued || generation === 0n || (!streaming && capturedLsn === releasedLsn)) return null;
  return { generation, capturedLsn, releasedLsn, lsnCeiling };
}

/** Takes a group that got no session away from the host, once nobody uses it or `end` aborts. */
export async function letGo(taken: TakenGroup, end: AbortSignal): Promise<void> {
  const { volumes, captureGroup, custody } = taken;
  await endAll(
    () => volumes.map((volume) => volume.detach(end)),
    () => volumes.map((volume) => volume.close()),
    () => [captureGroup.close()],
  ).finally(() => custody.forgetRing());
}

function openRing(
  { settings, ring, isRingSuspect }: InheritedGroup,
  custody: GroupCustody,
  door: TakeoverDoor,
  log: Log,
): Pick<TakenGroup, 'captureGroup' | 'isContinued'> {
  const { uuid: group, member, ringBytes, lingerUs, spool } = settings;
  const options = { group, member, ringBytes, lingerUs, spool, lastTimeNs: 0n, era: 1 };
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

/** Null: there is nothing to be resumed, since nobody has the device any more. */
async function resume(
  inherited: InheritedVolume,
  captureGroup: native.CaptureGroup,
  custody: GroupCustody,
  door: TakeoverDoor,
  clock: Clock,
  log: Log,
  end: AbortSignal,
): Promise<ProtectedVolume | null> {
  const { settings, inFlight, fuse, slots, listening } = inherited;
  const close = (): void => {
    for (const descriptor of [inFlight, fuse, slots, listening])
      if (descriptor !== null) closeSync(descriptor);
  };
  for (let attempts = 0; ; attempts += 1) {
    let volume: ProtectedVolume | null = null;
    try {
      volume = await ProtectedVolume.inherit(inherited, door);
      const isKept = captureOf(volume, captureGroup, inFlight, log);
      await volume.resume(inherited, isKept, custody, clock, log);
      close();
      log.warn({ volume: settings.name, device: volume.attachedAs }, 'serving what a predecessor served');
      return volume;
    } catch (thrown) {
      await volume?.close().catch(() => undefined);
      const error = toAfterimageError(thrown);
      if (error.code === 'NBD_GONE' || error.code === 'VOLUME_NOT_INSERTED') {
        log.error({ volume: settings.name, err: error }, 'nobody has the device any more');
        custody.forgetVolume(settings.name);
        close();
        return null;
      }
      if (attempts % LOG_EVERY === 0) {
        log.fatal(
          { volume: settings.name, err: error },
          'a volume in use cannot be served yet: its I/O waits',
        );
      }
      await clock.sleep(RETRY_MS, end);
    }
  }
}

/**
 * True: with the table of what the predecessor was writing. Without it stream and backing may disagree from here on, and the
 * stream ends.
 */
function captureOf(
  volume: ProtectedVolume,
  captureGroup: native.CaptureGroup,
  inFlight: number | null,
  log: Log,
): boolean {
  try {
    volume.capture(captureGroup, inFlight);
    if (inFlight !== null) return true;
  } catch (thrown) {
    if (inFlight === null) throw thrown;
    log.error(
      { volume: volume.config.name, err: toAfterimageError(thrown) },
      'what was being written is not known',
    );
    volume.capture(captureGroup);
  }
  captureGroup.closeStream();
  return false;
}
