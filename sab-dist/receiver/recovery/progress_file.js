/**
 * How far a recovery has come, beside its target: a recovery that was interrupted goes on there, if it is to the same
 * point. It exists from the first byte written until everything is verified.
 */
import { readFile, unlink } from 'node:fs/promises';
import { z } from 'zod';
import { writeDurably } from '../../service/durable_file.js';
export const PROGRESS_SUFFIX = '.afterimage-resume';
const decimal = z
    .string()
    .regex(/^\d{1,20}$/)
    .transform(BigInt);
const schema = z.object({
    // Not uuid(): identities are random in all their bits, those of version and variant too.
    volume: z.guid(),
    lsn: decimal,
    point: z.string(),
    size: decimal,
    target: z.string(),
    offset: decimal,
    isSparse: z.boolean(),
});
/** What `file` says, if it is about the same volume, maybe at another point, in the same target; else null. */
export async function readProgress(file, { volume, size }, target) {
    let json;
    try {
        json = JSON.parse(await readFile(file, 'utf8'));
    }
    catch {
        return null;
    }
    const parsed = schema.safeParse(json);
    if (!parsed.success)
        return null;
    const progress = parsed.data;
    const isSame = progress.volume === volume && progress.size === size;
    return isSame && progress.target === target && progress.offset <= size ? progress : null;
}
export function writeProgress(file, progress) {
    const { lsn, size, offset } = progress;
    const json = { ...progress, lsn: String(lsn), size: String(size), offset: String(offset) };
    return writeDurably(file, `${JSON.stringify(json)}\n`);
}
/** It may be gone already. */
export async function removeProgress(file) {
    try {
        await unlink(file);
    }
    catch (thrown) {
        if (thrown.code !== 'ENOENT')
            throw thrown;
    }
}
//# sourceMappingURL=progress_file.js.map