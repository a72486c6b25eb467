/**
 * Backings that become larger while their volumes are served. Looked for all the time: nobody tells the agent. A volume
 * that grows ends the stream, and the generation that follows has its new size: what it has grown by is compared with the
 * rest that is in doubt, since a logical volume may hold anything there. A backing that shrinks takes away what is
 * protected: all of it is in doubt until it has its size again.
 */
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { VOLUME_BYTES_MAX } from './backing.js';
import type { ProtectedVolume } from './volume.js';

/** What is to be done about it, in the turn of the event loop in which it is seen. */
export interface GrowthPort {
  /** The stream has ended, and volumes have other sizes. */
  grown(): void;
  /** Ends the stream. */
  doubt(): void;
}

export class Growth {
  private looking: Promise<void> | null = null;
  private isStopped = false;

  constructor(
    private readonly volumes: readonly ProtectedVolume[],
    private readonly port: GrowthPort,
    private readonly log: Log,
  ) {}

  /** Begins to look, unless that is under way. */
  look(): void {
    if (this.isStopped) return;
    this.looking ??= this.lookAtAll().finally(() => (this.looking = null));
  }

  /** What was begun is finished: nothing grows any more. */
  async stop(): Promise<void> {
    this.isStopped = true;
    await this.looking;
  }

  private async lookAtAll(): Promise<void> {
    for (const volume of [...this.volumes]) await this.lookAt(volume);
  }

  /** Never rejects. */
  private async lookAt(volume: ProtectedVolume): Promise<void> {
    try {
      const bytes = await volume.measure();
      const { size } = volume.info;
      if (bytes > VOLUME_BYTES_MAX)
        throw new AfterimageError('BACKING_INVALID', `${volume.title} has ${bytes} bytes`);
      if (bytes > size) await this.grow(volume, bytes);
      await volume.showSize();
      if (bytes < size) await this.refuse(volume, bytes);
      volume.sizeFault = null;
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      if (volume.sizeFault?.code !== error.code)
        this.log.error({ err: error }, `the size of ${volume.title}`);
      volume.sizeFault = error;
    }
  }

  private async grow(volume: ProtectedVolume, bytes: bigint): Promise<void> {
    this.log.warn(
      `${volume.title} has grown from ${volume.info.size} to ${bytes} bytes: a new generation begins`,
    );
    await volume.prepareGrowth(bytes);
    volume.grow(bytes);
    this.port.grown();
  }

  /** Errors: BACKING_RESIZED, always. */
  private async refuse(volume: ProtectedVolume, bytes: bigint): Promise<never> {
    if (volume.sizeFault?.code !== 'BACKING_RESIZED') {
      await volume.log.markAll();
      this.port.doubt();
    }
    throw new AfterimageError(
      'BACKING_RESIZED',
      `${volume.title} has ${bytes} bytes, and had ${volume.info.size}: what is left of it is served`,
    );
  }
}
