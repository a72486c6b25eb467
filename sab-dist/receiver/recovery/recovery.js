/**
 * Recovery: a point copied out in full, verified, and resumable. One volume goes to a file or device, a group into a
 * directory with one image a volume.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { named } from '../../service/system_errors.js';
import { copyVolume, verifyVolume } from './copy.js';
import { removeProgress } from './progress_file.js';
import { assertOutsideStore, checkDirectory, openReadBack, openTarget, targetError, } from './target.js';
/** Progress is told no more often than this. */
const TELL_MS = 200;
export class Recovery {
    parts;
    underWay = new Map();
    constructor(parts) {
        this.parts = parts;
    }
    /**
     * Recovers and tells how far it is; the last message of each volume has phase `done`. `signal` interrupts it: run
     * again with the same point it goes on. Errors: those of Points, TARGET_*, VERIFY_FAILED, INTERRUPTED, DISK_FULL,
     * IO_ERROR, PERMISSION_DENIED, SEGMENT_CORRUPT.
     */
    async *run(request, signal) {
        const { points, log } = this.parts;
        if (!path.isAbsolute(request.target)) {
            throw new AfterimageError('TARGET_INVALID', `${request.target} is not an absolute path`);
        }
        const point = await points.resolve(request.group, request.point, request.force);
        const { volume, target } = request;
        const { volumes, release } = points.volumes(point, volume === '' ? [] : [volume], `the recovery to ${target}`);
        const targets = [];
        try {
            for (const job of await this.plan(request, point, volumes)) {
                const progressFile = yield* this.recover(job, point, request.overwrite, signal);
                targets.push(progressFile);
            }
        }
        finally {
            release();
        }
        // Only now: a group that is interrupted in its second volume keeps its first.
        for (const progressFile of targets)
            await named(removeProgress(progressFile), progressFile);
        log.info({ group: request.group, target: request.target, lsn: point.positions[0].lsn }, 'recovered');
    }
    async plan(request, point, volumes) {
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
        if (volume !== '')
            return jobs;
        await assertOutsideStore(this.parts, target);
        if (!request.overwrite) {
            await checkDirectory(target, new Map(jobs.map((job) => [imageName(job.point), job.identity])));
        }
        try {
            await mkdir(target, { recursive: true, mode: 0o700 });
        }
        catch (thrown) {
            throw targetError(thrown, target);
        }
        return jobs;
    }
    /** Returns the file with its progress. */
    async *recover(job, point, overwrite, signal) {
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
            }
            catch (thrown) {
                throw this.damageOf(source, job, thrown);
            }
            finally {
                await target.device.close().finally(end);
            }
        }
        finally {
            await source.close();
        }
    }
    /** A point that could not be read, with what was damaged: its journal, or its base. */
    damageOf(source, { point }, thrown) {
        const error = toAfterimageError(thrown);
        if (error.code !== 'SEGMENT_CORRUPT')
            return thrown;
        const [offset] = this.parts.native.badBaseOffsets(source);
        if (offset === undefined)
            return thrown;
        return new AfterimageError('BASE_CORRUPT', `${point.basePath}, at byte ${offset}: ${error.message}`, {
            cause: thrown,
        });
    }
    /** One that was interrupted still makes durable what it wrote, after whoever asked for it was told. */
    async untilGivenUp(file) {
        const other = this.underWay.get(file);
        if (other?.signal.aborted === true)
            await other.ended;
    }
    /** Returns what to call when the target has been given back. */
    begin(file, signal) {
        let resolve = () => undefined;
        const ended = new Promise((done) => (resolve = done));
        this.underWay.set(file, { signal, ended });
        return () => {
            this.underWay.delete(file);
            resolve();
        };
    }
    async *copy(job, { positions: [{ lsn, timeNs }], text }, source, target, signal) {
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
            if (isTime())
                yield { ...message, bytesDone, bytesWritten, phase: 'copy', sha256: '' };
        }
        const readBack = await openReadBack(this.parts.native, target.path);
        try {
            const verification = verifyVolume(source, target, readBack, signal);
            let step = await verification.next();
            for (; step.done !== true; step = await verification.next()) {
                bytesDone = step.value;
                if (isTime())
                    yield { ...message, bytesDone, bytesWritten, phase: 'verify', sha256: '' };
            }
            yield { ...message, bytesDone, bytesWritten, phase: 'done', sha256: step.value };
        }
        finally {
            await readBack.close();
        }
    }
    throttle() {
        const { elapsedMs } = this.parts;
        let toldMs = elapsedMs();
        return () => {
            const nowMs = elapsedMs();
            if (nowMs - toldMs < TELL_MS)
                return false;
            toldMs = nowMs;
            return true;
        };
    }
}
function imageName({ volume }) {
    return `${volume.name}.img`;
}
//# sourceMappingURL=recovery.js.map