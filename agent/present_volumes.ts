/**
 * The volumes that a group has at present, which become more and fewer while it runs (volume_changes.ts): what is done to all
 * of them, and what the state remembers of them. Who serves them, and who captures them when, is not its job.
 */
import type { DeviceUse } from '../proto/control.js';
import { toAfterimageError } from '../proto/errors.js';
import type { DirtyLogPosition, VolumeInfo } from '../proto/replication.js';
import type * as native from '../native/index.js';
import type { Clock } from './clock.js';
import type { GroupConfig, VolumeConfig } from './config.js';
import { deviceUses } from './device_use.js';
import { positionOf } from './dirty_logs.js';
import { endAll } from './endings.js';
import type { VolumeLatencies } from './metrics.js';
import { openVolumes, tellLog, type OpeningSurroundings } from './opened_volumes.js';
import type { StoredState } from './session_events.js';
import type { MemberState, VolumeMemory } from './state.js';
import type { ProtectedVolume } from './volume.js';
import type { VolumeActivity } from './watchdog.js';

export class PresentVolumes {
  private readonly volumes: ProtectedVolume[];
  private readonly capturedVolumes = new Map<number, ProtectedVolume>();

  constructor(
    private readonly config: GroupConfig,
    opened: readonly ProtectedVolume[],
    private readonly state: MemberState,
    private readonly around: OpeningSurroundings & { clock: Clock },
  ) {
    this.volumes = [...opened];
  }

  /** Others see it change. */
  get all(): readonly ProtectedVolume[] {
    return this.volumes;
  }

  /** What a session has of them, by number; it sees them change. */
  get captured(): ReadonlyMap<number, ProtectedVolume> {
    return this.capturedVolumes;
  }

  get infos(): VolumeInfo[] {
    return this.volumes.map(({ info }) => info);
  }

  get logs(): DirtyLogPosition[] {
    return this.volumes.map(({ info, log }) => positionOf(info.number, log));
  }

  /** Errors: VOLUME_LIMIT, those of backings, of dirty logs and of the state; then none is open. */
  async open(configs: readonly VolumeConfig[]): Promise<ProtectedVolume[]> {
    const volumes = await openVolumes({ ...this.config, volumes: [...configs] }, this.state, [], this.around);
    try {
      await this.doubt(volumes, []);
      // Who they are is on stable storage before a receiver hears of it, or another volume could get their numbers.
      await this.remember(await memoriesOf(volumes, false));
      return volumes;
    } catch (thrown) {
      await this.giveBack(volumes);
      throw thrown;
    }
  }

  /**
   * Closes what was opened and served to nobody. The state has them as in use, which tells nothing of what others do to them
   * from now on: so all of them is marked. Never rejects.
   */
  async giveBack(volumes: readonly ProtectedVolume[]): Promise<void> {
    const failed = (thrown: unknown): void =>
      this.around.log.error({ err: toAfterimageError(thrown) }, 'a volume that was opened in vain');
    await markAll(volumes).catch(failed);
    await endAll(() => volumes.map((volume) => volume.close())).catch(failed);
  }

  /** Those that are not captured yet are from now on. Errors: RING_UNAVAILABLE */
  capture(group: native.CaptureGroup): void {
    for (const volume of this.volumes) {
      if (!volume.isCaptured) volume.capture(group);
      this.capturedVolumes.set(volume.info.number, volume);
    }
  }

  /** They are captured, and there from now on. */
  join(volumes: readonly ProtectedVolume[]): void {
    for (const volume of volumes) {
      this.volumes.push(volume);
      this.capturedVolumes.set(volume.info.number, volume);
    }
  }

  /** It is not there any more. */
  drop(volume: ProtectedVolume): void {
    this.volumes.splice(this.volumes.indexOf(volume), 1);
    this.capturedVolumes.delete(volume.info.number);
  }

  /**
   * What is to be remembered of one that nobody writes to any more. Whatever a disk fails that is not wanted any more: what may
   * differ is marked, and compared when it comes back. Null: the state keeps what it has. Never rejects.
   */
  async settle(volume: ProtectedVolume): Promise<VolumeMemory | null> {
    const failed = this.tellLeaving(volume);
    await volume.flush().catch(failed);
    await volume.cleanUp().catch(failed);
    return volume.remember(true).catch(failed);
  }

  /** Closes one that was dropped. Never rejects. */
  async close(volume: ProtectedVolume, memory: VolumeMemory | null): Promise<void> {
    const failed = this.tellLeaving(volume);
    if (memory !== null) await this.remember({ [volume.config.name]: memory }).catch(failed);
    await volume.close().catch(failed);
  }

  /**
   * What they may hold that nobody captured is marked, on stable storage; and an operator is told what there is to know of them.
   * `before`: the volumes that the group had last. Of any other one somebody is expected to have used the disk meanwhile: that
   * nothing tells of it is not enough.
   */
  async doubt(volumes: readonly ProtectedVolume[], before: readonly VolumeInfo[]): Promise<void> {
    const { log } = this.around;
    const changed = volumes.filter(({ evidence }) => evidence === 'changed');
    for (const { title } of changed)
      log.warn(`${title} was changed since the agent stopped: it is compared in full`);
    const unknown = volumes.filter(
      ({ info, isNew, evidence }) =>
        evidence === 'none' && !isNew && before.every(({ number }) => number !== info.number),
    );
    for (const { title } of unknown)
      log.warn(`${title} was away, and nothing tells what became of it: it is compared in full`);
    await markAll([...changed, ...unknown]);
    for (const volume of volumes) tellLog(volume, log);
    this.tellErrors(volumes);
  }

  tellErrors(volumes: readonly ProtectedVolume[]): void {
    const { clock, log } = this.around;
    for (const volume of volumes) volume.tellErrors(log, clock.monotonicMs());
  }

  /**
   * With what they are now. `isUnused`: production is out and all is flushed; who writes to them from now on, past the agent, is
   * noticed, also where the stop was not a clean one. Errors: those of backings and of the state.
   */
  async persist(stream: StoredState, isUnused: boolean): Promise<void> {
    if (stream.clean) await this.cleanUp();
    const volumes = [...this.volumes];
    const memories = await memoriesOf(volumes, stream.clean || isUnused);
    // One that has left meanwhile has said its last word.
    for (const volume of volumes) if (!this.volumes.includes(volume)) delete memories[volume.config.name];
    await this.remember(memories, stream);
  }

  latencies(): VolumeLatencies[] {
    return this.volumes.map(({ config, counters }) => {
      const { readLatency: read, writeLatency: write, flushLatency: flush, errors } = counters;
      return { group: this.config.name, volume: config.name, read, write, flush, errors };
    });
  }

  activities(): VolumeActivity[] {
    return this.volumes.flatMap(({ title, activity }) => (activity === null ? [] : [{ title, ...activity }]));
  }

  uses(): Promise<DeviceUse[]> {
    return deviceUses(this.config.name, this.volumes);
  }

  /** Nothing stays in doubt. What could not be unmarked is compared at the next resync. */
  private async cleanUp(): Promise<void> {
    const { log } = this.around;
    await Promise.all(
      this.volumes.map((volume) =>
        volume.cleanUp().catch((error: unknown) => log.warn({ err: error }, `${volume.title} is in doubt`)),
      ),
    );
  }

  private async remember(
    memories: Readonly<Record<string, VolumeMemory>>,
    stream = this.state.memory.stream,
  ): Promise<void> {
    await this.state.update({ stream, volumes: { ...this.state.memory.volumes, ...memories } });
  }

  private tellLeaving({ config }: ProtectedVolume): (thrown: unknown) => null {
    return (thrown) => {
      const err = toAfterimageError(thrown);
      this.around.log.warn({ volume: config.name, err }, 'a volume on its way out');
      return null;
    };
  }
}

async function markAll(volumes: readonly ProtectedVolume[]): Promise<void> {
  await Promise.all(volumes.map((volume) => volume.log.markAll()));
}

async function memoriesOf(
  volumes: readonly ProtectedVolume[],
  isClean: boolean,
): Promise<Record<string, VolumeMemory>> {
  const memories: Record<string, VolumeMemory> = {};
  for (const volume of volumes) memories[volume.config.name] = await volume.remember(isClean);
  return memories;
}
