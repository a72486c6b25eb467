/** Volumes that the configuration of a running group has no more: each ends when nobody uses it, unless it is wanted again before. */
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';
import type { ProtectedVolume } from './volume.js';

const LOOK_MS = 1_000;

type LeavingVolume = Pick<ProtectedVolume, 'config' | 'presentUse'>;

interface Wait {
  enough: AbortController;
  /** Nobody used it, and it ends. */
  isEnding: boolean;
  /** Never rejects. */
  over: Promise<void>;
}

export class LeavingVolumes<Volume extends LeavingVolume = ProtectedVolume> {
  private readonly waits = new Map<Volume, Wait>();
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    /** Nobody uses the volume. One at a time. */
    private readonly end: (volume: Volume) => Promise<void>,
  ) {}

  /** Of `volumes` those that are not among `names` leave from now on, the others do not any more. Gives the names of those that do. */
  want(names: readonly string[], volumes: readonly Volume[]): string[] {
    for (const volume of volumes) {
      if (names.includes(volume.config.name)) this.waits.get(volume)?.enough.abort();
      else if (!this.waits.has(volume)) this.begin(volume);
    }
    return [...this.waits]
      .filter(([, { enough }]) => !enough.signal.aborted)
      .map(([{ config }]) => config.name);
  }

  /** Resolves when those of `names` that are ending have ended. */
  async ended(names: readonly string[]): Promise<void> {
    const ending = [...this.waits].filter(
      ([{ config }, { isEnding }]) => isEnding && names.includes(config.name),
    );
    await Promise.all(ending.map(([, { over }]) => over));
  }

  /** None leaves any more by itself; what was begun is finished. Never rejects. */
  async stop(): Promise<void> {
    for (const { enough } of this.waits.values()) enough.abort();
    await Promise.all([...this.waits.values()].map(({ over }) => over));
  }

  private begin(volume: Volume): void {
    const wait: Wait = { enough: new AbortController(), isEnding: false, over: Promise.resolve() };
    this.waits.set(volume, wait);
    wait.over = this.leave(volume, wait).finally(() => this.waits.delete(volume));
  }

  /** Never rejects. */
  private async leave(volume: Volume, wait: Wait): Promise<void> {
    const { name } = volume.config;
    const { signal: enough } = wait.enough;
    try {
      while (!enough.aborted && (await volume.presentUse()) !== null)
        await this.clock.sleep(LOOK_MS, enough).catch(() => undefined);
      if (enough.aborted) return;
      wait.isEnding = true;
      await this.inTurn(() => this.end(volume));
      this.log.info({ volume: name }, 'the volume has left its group');
    } catch (thrown) {
      this.log.error(
        { volume: name, err: toAfterimageError(thrown) },
        'a volume that was to leave its group',
      );
    }
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => undefined);
    return done;
  }
}
