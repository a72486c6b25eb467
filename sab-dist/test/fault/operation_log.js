/** What a fault-directory has recorded (operation_log.h): every change of a directory, and every sync, in order. */
import { readFile } from 'node:fs/promises';
/** Their numbers are those of operation_log.h. */
const KINDS = [
    null,
    'create',
    'write',
    'truncate',
    'fallocate',
    'rename',
    'unlink',
    'link',
    'mkdir',
    'rmdir',
    'sync',
    'syncdir',
    'exists',
];
const HEADER_BYTES = 76;
/** Errors: when the file ends within an entry, or holds what no fault-directory writes. */
export async function readOperationLog(file) {
    return parseOperations(await readFile(file));
}
export function parseOperations(bytes) {
    const operations = [];
    for (let at = 0; at < bytes.length;) {
        const entryBytes = at + HEADER_BYTES <= bytes.length ? bytes.readUInt32LE(at) : 0;
        const kind = KINDS[bytes[at + 4] ?? 0] ?? null;
        const pathBytes = bytes.readUInt16LE(at + 6);
        const targetBytes = bytes.readUInt16LE(at + 8);
        const dataBytes = bytes.readUInt32LE(at + 72);
        if (kind === null || entryBytes !== HEADER_BYTES + pathBytes + targetBytes + dataBytes) {
            throw new Error(`the record of operations is broken at ${at}`);
        }
        if (at + entryBytes > bytes.length)
            throw new Error(`the record of operations ends within one, at ${at}`);
        const targetAt = at + HEADER_BYTES + pathBytes;
        operations.push({
            index: operations.length,
            kind,
            isDataOnly: bytes[at + 5] === 1,
            error: bytes.readInt32LE(at + 12),
            begin: Number(bytes.readBigUInt64LE(at + 16)),
            end: Number(bytes.readBigUInt64LE(at + 24)),
            beginNs: bytes.readBigUInt64LE(at + 32),
            endNs: bytes.readBigUInt64LE(at + 40),
            file: Number(bytes.readBigUInt64LE(at + 48)),
            offset: Number(bytes.readBigUInt64LE(at + 56)),
            length: Number(bytes.readBigUInt64LE(at + 64)),
            path: bytes.toString('utf8', at + HEADER_BYTES, targetAt),
            target: bytes.toString('utf8', targetAt, targetAt + targetBytes),
            data: bytes.subarray(targetAt + targetBytes, at + entryBytes),
        });
        at += entryBytes;
    }
    return operations;
}
/** In words, for whoever looks for what went wrong. */
export function describeOperation(operation) {
    const { index, kind, path, target, offset, length, file, error, isDataOnly } = operation;
    const name = kind === 'sync' && isDataOnly ? 'datasync' : kind;
    const where = kind === 'write' || kind === 'fallocate' ? ` ${length} bytes at ${offset}` : '';
    const size = kind === 'truncate' ? ` to ${offset}` : '';
    const to = target === '' ? '' : ` -> ${target}`;
    return `#${index} ${name} ${path}${to}${where}${size} (file ${file})${error === 0 ? '' : ` failed: errno ${error}`}`;
}
//# sourceMappingURL=operation_log.js.map