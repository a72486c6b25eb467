/**
 * Recovery: a point copied out in full, verified, and resumable. One volume goes to a file or device, a group into a
 * directory with one image a volume.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { BlockDevice } from '../../native/index.js';
import type { RecoverProgress, RecoverRequest } from '../../proto/control.js';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import type { Log } from '../../service/log.js';
import type { Points, ResolvedPoint, VolumePoint } from '../points.js';
import { named } from '../../service/system_errors.js';
import { copyVolume, verifyVolume, type CopyParts } from './copy.js';
import { removeProgress, type RecoveryIdentity } from './progress_file.js';
import {
  assertOutsideStore,
  checkDirectory,
  openReadBack,
  openTarget,
  targetError,
  type Target,
  type TargetParts,
} from './target.js';

export interface RecoveryParts {
  points: Pick<Points, 'resolve' | 'volumes'>;
  native: CopyParts & {
    openFileDevice: TargetParts['openFileDevice'];
    badBaseOffsets(point: BlockDevice): bigint[];
  };
  storeDirectory: string;
  runDirectory: string;
  /** A clock that does not go back, milliseconds. */
  elapsedMs: () => number;
  log: Log;
}

/** Progress is told no more often than this. */
const TELL_MS = 200;

/** One volume and where it goes. */
interface Job {
  point: VolumePoint;
  file: string;
  identity: RecoveryIdentity;
}

/** A target that is being written to. */
interface UnderWay {
  signal: AbortSignal;
  ended: Promise<void>;
}

export class Recovery {
  private readonly underWay = new Map<string, UnderWay>();

  constructor(private readonly parts: RecoveryParts) {}

  /**
   * Recovers and tells how far it is; the last message of each volume has phase `done`. `signal` interrupts it: run
   * again with the same point it goes on. Errors: those of Points, TARGET_*, VERIFY_FAILED, INTERRUPTED, DISK_FULL,
   * IO_ERROR, PERMISSION_DENIED, SEGMENT_CORRUPT.
   */
  async *run(request: RecoverRequest, signal: AbortSignal): AsyncGenerator<RecoverProgress, void> {
    const { points, log } = this.parts;
    if (!path.isAbsolute(request.target)) {
      throw new AfterimageError('TARGET_INVALID', `${request.target} is not an absolute path`);
    }
    const point = await points.resolve(request.group, request.point, request.force);
    const { volume, target } = request;
    const { volumes, release } = points.volumes(
      point,
      volume === '' ? [] : [volume],
      `the recovery to ${target}`,
    );
    const targets: string[] = [];
    try {
      for (const job of await this.plan(request, point, volumes)) {
        const progressFile = yield* this.recover(job, point, request.overwrite, signal);
        targets.push(progressFile);
      }
    } finally {
      release();
    }
    // Only now: a group that is interrupted in its second volume keeps its first.
    for (const progressFile of targets) await named(removeProgress(progressFile), progressFile);
    log.info({ group: request.group, target: request.target, lsn: point.positions[0].lsn }, 'recovered');
  }

  private async plan(
    request: RecoverRequest,
    point: ResolvedPoint,
    volumes: readonly VolumePoint[],
  ): Promise<Job[]> {
    const { target, volume } = request;
    const jobs = volumes.map((each) => ({
      point: each,
      file: volume === '' ? path.join(target, imageName(each)) : target,
      identity: {
        volume: each.volume.uuid,
        lsn: each.lsn,
        point: point.text,
        size: each.size,
      },
    }));
    if (volume !== '') return jobs;
    await assertOutsideStore(this.parts, target);
    if (!request.overwrite) {
      await checkDirectory(target, new Map(jobs.map((job) => [imageName(job.point), job.identity])));
    }
    try {
      await mkdir(target, { recursive: true, mode: 0o700 });
    } catch (thrown) {
      throw targetError(thrown, target);
    }
    return jobs;
  }

  /** Returns the file with its progress. */
  private async *recover(
    job: Job,
    point: ResolvedPoint,
    overwrite: boolean,
    signal: AbortSignal,
  ): AsyncGenerator<RecoverProgress, string> {
    const { native } = this.parts;
    const source = await job.point.open();
    try {
      const { runDirectory } = this.parts;
      await named(mkdir(runDirectory, { recursive: true, mode: 0o700 }), runDirectory);
      const targetParts = { ...this.parts, openFileDevice: native.openFileDevice };
      await this.untilGivenUp(job.file);
      const target = await openTarget(targetParts, job.file, job.identity, overwrite);
      const end = this.begin(job.file, signal);
      try {
        yield* this.copy(job, point, source, target, signal);
        return target.progressFile;
      } catch (thrown) {
        throw this.damageOf(source, job, thrown);
      } finally {
        await target.device.close().finally(end);
      }
    } finally {
      await source.close();
    }
  }

  /** A point that could not be read, with what was damaged: its journal, or its base. */
  private damageOf(source: BlockDevice, { point }: Job, thrown: unknown): unknown {
    const error = toAfterimageError(thrown);
    if (error.code !== 'SEGMENT_CORRUPT') return thrown;
    const [offset] = this.parts.native.badBaseOffsets(source);
    if (offset === undefined) return thrown;
    return new AfterimageError('BASE_CORRUPT', `${point.basePath}, at byte ${offset}: ${error.message}`, {
      cause: thrown,
    });
  }

  /** One that was interrupted still makes durable what it wrote, after whoever asked for it was told. */
  private async untilGivenUp(file: string): Promise<void> {
    const other = this.underWay.get(file);
    if (other?.signal.aborted === true) await other.ended;
  }

  /** Returns what to call when the target has been given back. */
  private begin(file: string, signal: AbortSignal): () => void {
    let resolve = (): void => undefined;
    const ended = new Promise<void>((done) => (resolve = done));
    this.underWay.set(file, { signal, ended });
    return () => {
      this.underWay.delete(file);
      resolve();
    };
  }

  private async *copy(
    job: Job,
    { positions: [{ lsn, timeNs }], text }: ResolvedPoint,
    source: BlockDevice,
    target: Target,
    signal: AbortSignal,
  ): AsyncGenerator<RecoverProgress, void> {
    const message = {
      volume: job.point.volume.name,
      target: job.file,
      bytesTotal: job.identity.size,
      lsn,
      timeNs,
      point: text,
    };
    const isTime = this.throttle();
    let bytesWritten = 0n;
    let bytesDone = target.progress.offset;
    yield { ...message, bytesDone, bytesWritten, phase: 'copy', sha256: '' };
    for await (const step of copyVolume(this.parts.native, source, target, signal)) {
      ({ bytesDone, bytesWritten } = step);
      if (isTime()) yield { ...message, bytesDone, bytesWritten, phase: 'copy', sha256: '' };
    }
    const readBack = await openReadBack(this.parts.native, target.path);
    try {
      const verification = verifyVolume(source, target, readBack, signal);
      let step = await verification.next();
      for (; step.done !== true; step = await verification.next()) {
        bytesDone = step.value;
        if (isTime()) yield { ...message, bytesDone, bytesWritten, phase: 'verify', sha256: '' };
      }
      yield { ...message, bytesDone, bytesWritten, phase: 'done', sha256: step.value };
    } finally {
      await readBack.close();
    }
  }

  private throttle(): () => boolean {
    const { elapsedMs } = this.parts;
    let toldMs = elapsedMs();
    return () => {
      const nowMs = elapsedMs();
      if (nowMs - toldMs < TELL_MS) return false;
      toldMs = nowMs;
      return true;
    };
  }
}

function imageName({ volume }: VolumePoint): string {
  return `${volume.name}.img`;
}
