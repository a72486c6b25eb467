/**
 * A volume that a predecessor served, on its way to being served again. Its backing may be away for long, or not answer: its
 * I/O waits in the kernel, and nobody else does. It is tried again until it is served, nobody has it any more, or it is
 * given up.
 */
import { closeSync } from 'node:fs';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type * as native from '../native/index.js';
import type { Log } from '../service/log.js';
import { aborted } from '../service/signals.js';
import type { Clock } from './clock.js';
import type { VolumeConfig } from './config.js';
import type { GroupCustody } from './custody.js';
import type { InheritedVolume } from './inheritance.js';
import { configOf, ProtectedVolume, type VolumeDoor } from './volume.js';

const RETRY_MS = 200;
const LOG_EVERY = 25;

export class VolumeTakeover {
  readonly config: VolumeConfig;
  private served: ProtectedVolume | null = null;
  /** Null: it is over. */
  private error: AfterimageError | null;
  private attempts = 0;
  private over: Promise<void> | null = null;
  private readonly enough = new AbortController();

  constructor(
    private readonly inherited: InheritedVolume,
    private readonly captureGroup: native.CaptureGroup,
    private readonly custody: GroupCustody,
    private readonly door: VolumeDoor,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    this.config = configOf(inherited.settings);
    const { name, backing } = this.config;
    this.error = new AfterimageError('BACKING_FAILED', `volume ${name} (${backing}) does not answer yet`);
  }

  /** Null: it is not served, or nobody has it any more. */
  get volume(): ProtectedVolume | null {
    return this.served;
  }
  /** Why it is not served yet; null: it is, or it is not going to be. */
  get failure(): AfterimageError | null {
    return this.error;
  }

  /** Resolves when the first attempt is over; others follow. Never rejects. */
  async begin(): Promise<void> {
    const first = this.attempt();
    this.over = first.then(() => this.tryAgain()).then(() => this.closeDescriptors());
    await first;
  }

  /**
   * Waits until it is served, or nobody has it any more. Once `end` aborts it is given up, whether anything answers or not.
   * Never rejects.
   */
  async settled(end: AbortSignal): Promise<void> {
    if (this.error === null) return;
    this.log.warn(
      { volume: this.config.name, err: this.error },
      'the volume cannot be served and its I/O waits: so does the stop; a second signal gives it up',
    );
    const ended = aborted(end).then(() => this.enough.abort());
    await Promise.race([this.over, ended]);
    if (this.failure !== null) await this.giveUp();
  }

  private async tryAgain(): Promise<void> {
    while (this.error !== null) {
      await this.clock.sleep(RETRY_MS, this.enough.signal).catch(() => undefined);
      if (this.enough.signal.aborted) return;
      await this.attempt();
    }
  }

  /** Never rejects. */
  private async attempt(): Promise<void> {
    const { inherited, captureGroup, custody, clock, log } = this;
    const { name } = this.config;
    let volume: ProtectedVolume | null = null;
    try {
      volume = await ProtectedVolume.inherit(inherited, this.door);
      const isKept = this.capture(volume, captureGroup);
      // That its dirty log lacks marks would be said there too.
      if (!isKept) await volume.log.markAll();
      // Its records could be of bytes that the generation does not have.
      if (inherited.isGrowing) captureGroup.closeStream();
      await volume.resume(inherited, isKept, custody, clock, log);
      if (this.failure === null) {
        // It was given up meanwhile.
        await volume.detach(this.enough.signal);
        return await volume.close();
      }
      log.warn({ volume: name, device: volume.attachedAs }, 'serving what a predecessor served');
      volume.tellErrors(log, clock.monotonicMs()); // it may be long before there is a session that does
      this.served = volume;
      this.error = null;
    } catch (thrown) {
      await volume?.close().catch(() => undefined);
      const error = toAfterimageError(thrown);
      if (error.code === 'NBD_GONE' || error.code === 'VOLUME_NOT_INSERTED') {
        log.error({ volume: name, err: error }, 'nobody has the device any more');
        custody.forgetVolume(name);
        this.error = null;
      }
      if (this.failure === null) return;
      this.error = error;
      if (this.attempts++ % LOG_EVERY === 0)
        log.fatal({ volume: name, err: error }, 'a volume in use cannot be served yet: its I/O waits');
    }
  }

  /**
   * True: with the table of what the predecessor was writing. Without it stream and backing may disagree from here on, and
   * the stream ends.
   */
  private capture(volume: ProtectedVolume, captureGroup: native.CaptureGroup): boolean {
    const { inFlight } = this.inherited;
    try {
      volume.capture(captureGroup, inFlight);
      if (inFlight !== null) return true;
    } catch (thrown) {
      if (inFlight === null) throw thrown;
      this.log.error(
        { volume: this.config.name, err: toAfterimageError(thrown) },
        'what was being written is not known',
      );
      volume.capture(captureGroup);
    }
    captureGroup.closeStream();
    return false;
  }

  /** Whoever uses it gets errors, rather than to wait for nobody. */
  private async giveUp(): Promise<void> {
    const { name } = this.config;
    const { attachment } = this.inherited.settings;
    this.log.warn({ volume: name }, 'the volume is given up although it may be in use');
    this.custody.forgetVolume(name);
    this.error = null;
    if (attachment.kind !== 'nbd') return;
    await this.door
      .detachNbd(attachment.device, attachment.backend, true)
      .catch((error: unknown) => this.log.error({ volume: name, err: error }, 'it stays attached'));
  }

  /** No attempt is under way, and none follows. */
  private closeDescriptors(): void {
    const { inFlight, fuse, slots, listening } = this.inherited;
    for (const descriptor of [inFlight, fuse, slots, listening])
      if (descriptor !== null) closeSync(descriptor);
  }
}
