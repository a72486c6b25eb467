/**
 * Production's way in to the volumes of a group. One that cannot be served takes no other away, since somebody may use
 * that by then: the rest is served, and it is tried again until it can be.
 */
import { toAfterimageError, type AfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';
import type { GroupCustody } from './custody.js';
import { endAll } from './endings.js';
import { retry } from './retry.js';
import type { Places, ProtectedVolume } from './volume.js';

export class Serving {
  private begun: Promise<void> = Promise.resolve();
  private readonly tried = new Set<ProtectedVolume>();
  private readonly retries = new Map<ProtectedVolume, Promise<void>>();
  /** By volume: aborted when it is not to be tried again. */
  private readonly enough = new Map<ProtectedVolume, AbortController>();
  private readonly stopping = new AbortController();

  constructor(
    private readonly custody: GroupCustody,
    /** They may become more, and fewer. */
    private readonly volumes: readonly ProtectedVolume[],
    private readonly places: Places,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /**
   * Tries every volume once that was not tried before, and again those that cannot be served. Errors: of the first, if none of all
   * volumes can be.
   */
  begin(): Promise<void> {
    // A session before may have, and they are served ever since.
    const fresh = this.volumes.filter((volume) => !this.tried.has(volume));
    for (const volume of fresh) this.tried.add(volume);
    if (fresh.length > 0) this.begun = Promise.all([this.begun, this.beginOnce(fresh)]).then(() => undefined);
    return this.begun;
  }

  /** Tries every volume once more, also whether production gets to it. Errors: the first. */
  async ensure(): Promise<void> {
    const errors = await Promise.all(this.volumes.map((volume) => this.attempt(volume)));
    const first = errors.find((error) => error !== null);
    if (first !== undefined) throw first;
  }

  /** Takes every volume away, once nobody uses it or `end` aborts. Errors: the first of those of the front ends. */
  async end(end: AbortSignal): Promise<void> {
    this.stopping.abort();
    // What is being attached meanwhile would stay behind.
    await this.begun.catch(() => undefined);
    await endAll(() =>
      this.volumes.map(async (volume) => {
        await this.retries.get(volume);
        await volume.detach(end);
      }),
    );
  }

  /** Takes one volume away, as end() does. Errors: those of its front end. */
  async remove(volume: ProtectedVolume, end: AbortSignal): Promise<void> {
    this.enough.get(volume)?.abort();
    await this.begun.catch(() => undefined);
    await this.retries.get(volume);
    await volume.detach(end);
  }

  private async beginOnce(fresh: readonly ProtectedVolume[]): Promise<void> {
    const errors = await Promise.all(fresh.map((volume) => this.attempt(volume)));
    const [first] = errors.filter((error) => error !== null);
    if (first !== undefined && this.volumes.every(({ failure }) => failure !== null)) throw first;
    for (const volume of fresh)
      if (volume.failure !== null) this.retries.set(volume, this.tryAgain(volume, volume.failure));
  }

  /** Null: it is served. */
  private async attempt(volume: ProtectedVolume): Promise<AfterimageError | null> {
    const { custody, places, clock, log } = this;
    try {
      await volume.attach(custody, places, clock, log);
    } catch (thrown) {
      return toAfterimageError(thrown);
    }
    log.info({ volume: volume.config.name, device: volume.attachedAs }, 'serving');
    return null;
  }

  /** Until it is served, or everything stops. Never rejects. */
  private async tryAgain(volume: ProtectedVolume, error: AfterimageError): Promise<void> {
    const { name } = volume.config;
    this.log.error({ volume: name, err: error }, 'the volume cannot be served; the others of its group are');
    const failed = ({ code, message }: AfterimageError): void =>
      this.log.warn({ volume: name, code }, `the volume still cannot be served: ${message}`);
    const enough = new AbortController();
    this.enough.set(volume, enough);
    const over = AbortSignal.any([this.stopping.signal, enough.signal]);
    await retry(() => this.attempt(volume), failed, this.clock, over);
  }
}
