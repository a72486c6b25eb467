/** Copies one volume at a point to a target, and proves that the target holds it. */
import { createHash } from 'node:crypto';
import { AfterimageError } from '../../proto/errors.js';
import { named, systemError, systemErrorName } from '../../service/system_errors.js';
import { removeProgress, writeProgress } from './progress_file.js';
const MIB = 1024 * 1024;
const PIECE_BYTES = 4 * MIB;
/** After so much the target is flushed and the progress recorded: what an interruption costs at most. */
const RECORD_BYTES = BigInt(256 * MIB);
/** Hashed on the main thread in less than a millisecond or two. */
const VERIFY_BYTES = MIB;
/**
 * Copies from where the target's progress stands, a step a piece, and flushes at the end. Ended early, by return or
 * throw, it records how far it came. Errors: INTERRUPTED (aborted), DISK_FULL, IO_ERROR, SEGMENT_CORRUPT.
 */
export async function* copyVolume({ copyRange }, source, target, signal) {
    const { device, progress } = target;
    let bytesDone = progress.offset;
    let bytesWritten = 0n;
    let isBroken = false;
    try {
        while (bytesDone < progress.size) {
            assertWanted(signal, target);
            const length = pieceAt(bytesDone, progress.size, PIECE_BYTES);
            // Zeroes may be left out only where nothing else can be.
            const copied = await copyRange(source, device, bytesDone, length, progress.isSparse).catch((thrown) => {
                isBroken = true;
                throw copyError(thrown, target.path);
            });
            bytesDone += BigInt(length);
            bytesWritten += copied.bytesWritten;
            if (bytesDone - progress.offset >= RECORD_BYTES)
                await record(target, bytesDone);
            yield { bytesDone, bytesWritten };
        }
    }
    finally {
        const recorded = record(target, bytesDone);
        // Of a disk that failed already this would only say so again, and less.
        await (isBroken ? recorded.catch(() => undefined) : recorded);
    }
}
/**
 * Reads source and `device`, the target as its disk holds it, a step a piece; returns the SHA-256 of both, hex. Errors: VERIFY_FAILED, after which there is
 * nothing to go on with; INTERRUPTED, IO_ERROR, SEGMENT_CORRUPT.
 */
export async function* verifyVolume(source, { path, progress, progressFile }, device, signal) {
    const hash = createHash('sha256');
    const wanted = Buffer.allocUnsafe(VERIFY_BYTES);
    const found = Buffer.allocUnsafe(VERIFY_BYTES);
    let offset = 0n;
    while (offset < progress.size) {
        assertWanted(signal, { path });
        const length = pieceAt(offset, progress.size, VERIFY_BYTES);
        const [left, right] = [wanted.subarray(0, length), found.subarray(0, length)];
        await Promise.all([
            source.read(offset, left).catch((thrown) => {
                throw copyError(thrown, `reading the point at ${offset} for ${path}`);
            }),
            named(device.read(offset, right), `reading ${path} at ${offset}`),
        ]);
        if (!left.equals(right)) {
            // What is in the target is worth nothing: to go on from there would fail for ever.
            await named(removeProgress(progressFile), progressFile);
            throw new AfterimageError('VERIFY_FAILED', `${path} differs within ${length} bytes from ${offset}`);
        }
        hash.update(right);
        offset += BigInt(length);
        yield offset;
    }
    return hash.digest('hex');
}
async function record(target, offset) {
    await named(target.device.flush(), target.path);
    target.progress.offset = offset;
    await named(writeProgress(target.progressFile, target.progress), target.progressFile);
}
/** The addon's message says which side failed; EBADMSG is what a point answers where its journal is damaged. */
function copyError(thrown, subject) {
    if (systemErrorName(thrown) !== 'EBADMSG')
        return systemError(thrown, subject);
    return new AfterimageError('SEGMENT_CORRUPT', `${subject}: ${thrown.message}`, {
        cause: thrown,
    });
}
function pieceAt(offset, size, bytes) {
    const left = size - offset;
    return left < BigInt(bytes) ? Number(left) : bytes;
}
function assertWanted(signal, { path }) {
    if (signal.aborted)
        throw new AfterimageError('INTERRUPTED', `the recovery to ${path} was interrupted`);
}
//# sourceMappingURL=copy.js.map