/**
 * The volumes of a group that runs, as its configuration is read again: some are added, others leave, each when nobody uses it.
 * One change at a time, whatever takes long.
 */
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';
import type { VolumeConfig } from './config.js';

const LOOK_MS = 1_000;
/** After a volume could not be taken away. */
const AGAIN_MS = 30_000;

export interface ChangingVolume {
  readonly config: VolumeConfig;
  presentUse(): Promise<string | null>;
}
/** What is done to the group. */
export interface ChangesPort<Volume extends ChangingVolume> {
  /** Those that are there now. */
  readonly volumes: readonly Volume[];
  /** Errors: VOLUME_LIMIT, those of backings; then none is open. */
  open(configs: readonly VolumeConfig[]): Promise<Volume[]>;
  /** Closes what was opened and not added. Never rejects. */
  giveBack(volumes: readonly Volume[]): Promise<void>;
  /** They are of the group from now on, and served as soon as they can be. Errors: RING_UNAVAILABLE; then they are not. */
  add(volumes: readonly Volume[]): void;
  /** Serves what is there and is not served. */
  serve(): void;
  /** Takes it away; false: somebody uses it after all. Errors: those of its front end, IO_ERROR; it is still there then. */
  remove(volume: Volume): Promise<boolean>;
}
/** What came of it. */
export interface Reshaped {
  added: string[];
  /** Until nobody uses them. */
  leaving: string[];
  /** As the group has them, in the order in which they are wanted: one that was there stays as it was. */
  volumes: VolumeConfig[];
}

export class VolumeChanges<Volume extends ChangingVolume> {
  /** Of volumes that leave: aborted when one is wanted again. */
  private readonly leaving = new Map<Volume, AbortController>();
  private readonly leaves = new Set<Promise<void>>();
  private turn: Promise<unknown> = Promise.resolve();
  private isStopped = false;

  constructor(
    private readonly port: ChangesPort<Volume>,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Errors: those of ChangesPort.open and add, INTERRUPTED; then nothing has changed. */
  take(wanted: readonly VolumeConfig[]): Promise<Reshaped> {
    return this.inTurn(async () => {
      this.refuseWhenStopped(); // what is opened is written to the state, which may be another group's by now
      const fresh = wanted.filter(({ name }) => this.named(name) === null);
      const added = await this.port.open(fresh);
      try {
        this.refuseWhenStopped();
        if (added.length > 0) this.port.add(added);
      } catch (thrown) {
        await this.port.giveBack(added);
        throw thrown;
      }
      this.leave(wanted);
      this.port.serve();
      return {
        added: added.map(({ config }) => config.name),
        leaving: [...this.leaving.keys()].map(({ config }) => config.name),
        volumes: wanted.map((one) => this.named(one.name)?.config ?? one),
      };
    });
  }

  /** Those that are not wanted leave from now on, the others do not any more. */
  leave(wanted: readonly VolumeConfig[]): void {
    for (const volume of this.port.volumes) {
      const isWanted = wanted.some(({ name }) => name === volume.config.name);
      if (isWanted) {
        this.leaving.get(volume)?.abort();
        this.leaving.delete(volume);
      } else if (!this.leaving.has(volume) && !this.isStopped) {
        const enough = new AbortController();
        this.leaving.set(volume, enough);
        const over = this.leaveUnused(volume, enough.signal).finally(() => this.leaves.delete(over));
        this.leaves.add(over);
      }
    }
  }

  /** Nothing changes any more by itself; what was begun is finished. Never rejects. */
  async stop(): Promise<void> {
    this.isStopped = true;
    for (const enough of this.leaving.values()) enough.abort();
    await Promise.all([this.turn, ...this.leaves]);
  }

  /** Never rejects. */
  private async leaveUnused(volume: Volume, enough: AbortSignal): Promise<void> {
    const { name } = volume.config;
    while (!enough.aborted) {
      let pauseMs = LOOK_MS;
      try {
        // Looked at again when it is its turn: it may be wanted again, or used.
        const isUnused = async (): Promise<boolean> =>
          (await volume.presentUse()) === null && !enough.aborted;
        if (await isUnused()) {
          const isGone = await this.inTurn(async () => {
            if (!(await isUnused())) return false;
            return this.port.remove(volume);
          });
          if (isGone) {
            this.leaving.delete(volume);
            return this.log.info({ volume: name }, 'the volume has left its group');
          }
        }
      } catch (thrown) {
        pauseMs = AGAIN_MS;
        this.log.error(
          { volume: name, err: toAfterimageError(thrown) },
          'the volume cannot leave its group, and is tried again',
        );
      }
      await this.clock.sleep(pauseMs, enough).catch(() => undefined);
    }
  }

  private refuseWhenStopped(): void {
    if (this.isStopped) throw new AfterimageError('INTERRUPTED', 'the group is stopping');
  }

  private named(name: string): Volume | null {
    return this.port.volumes.find(({ config }) => config.name === name) ?? null;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => undefined);
    return done;
  }
}
