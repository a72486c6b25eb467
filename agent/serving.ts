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
  private begun: Promise<void> | null = null;
  /** Served, or tried again until they are. */
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

  /** Tries every volume once, and again those that cannot be served. Errors: of the first, if none can be. */
  begin(): Promise<void> {
    this.begun ??= this.beginOnce(); // a session before may have, and they are served ever since
    return this.begun;
  }

  /** Tries those once that were never tried, and again those that cannot be served. */
  serve(): void {
    for (const volume of this.volumes) if (!this.tried.has(volume)) this.served(volume, this.attempt(volume));
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
    await this.begun?.catch(() => undefined);
    await endAll(() =>
      this.volumes.map(async (volume) => {
        await this.retries.get(volume);
        await volume.detach(end);
      }),
    );
  }

  /** Takes one volume away, unless somebody uses it; serve() brings it back. Errors: those of its front end. */
  async removeUnused(volume: ProtectedVolume): Promise<boolean> {
    this.enough.get(volume)?.abort();
    await this.retries.get(volume);
    this.tried.delete(volume);
    if (await volume.detachUnused()) return true;
    this.tried.add(volume);
    return false;
  }

  private async beginOnce(): Promise<void> {
    const attempts = this.volumes.map((volume) => {
      const attempt = this.attempt(volume);
      this.tried.add(volume);
      return { volume, attempt };
    });
    const errors = await Promise.all(attempts.map(({ attempt }) => attempt));
    const [first] = errors.filter((error) => error !== null);
    if (first !== undefined && errors.every((error) => error !== null)) throw first;
    for (const { volume, attempt } of attempts) this.served(volume, attempt);
  }

  private served(volume: ProtectedVolume, attempt: Promise<AfterimageError | null>): void {
    this.tried.add(volume);
    const enough = new AbortController();
    this.enough.set(volume, enough);
    const over = attempt.then((error) =>
      error === null || enough.signal.aborted ? undefined : this.tryAgain(volume, error, enough.signal),
    );
    this.retries.set(volume, over);
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
  private async tryAgain(
    volume: ProtectedVolume,
    error: AfterimageError,
    enough: AbortSignal,
  ): Promise<void> {
    const { name } = volume.config;
    this.log.error({ volume: name, err: error }, 'the volume cannot be served; the others of its group are');
    const failed = ({ code, message }: AfterimageError): void =>
      this.log.warn({ volume: name, code }, `the volume still cannot be served: ${message}`);
    const over = AbortSignal.any([this.stopping.signal, enough]);
    await retry(() => this.attempt(volume), failed, this.clock, over);
  }
}
