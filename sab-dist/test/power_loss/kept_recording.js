/** A recording in a directory, for whoever looks for what went wrong. */
import { copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readOperationLog } from '../fault/operation_log.js';
import { memberDirectory } from './recording.js';
const BIGINT = /^-?\d+n$/;
export async function keepRecording(directory, recording) {
    const { operationLog, memberDirectory: member, promised, written, initNs, baseLsns } = recording;
    const [group = '', own = ''] = member.split(path.sep).slice(-2);
    await mkdir(directory, { recursive: true });
    await copyFile(operationLog, path.join(directory, 'operations'));
    await cp(member, path.join(directory, 'store', 'groups', group, own), { recursive: true });
    const rest = { promised, written, initNs, baseLsns: [...baseLsns] };
    const text = JSON.stringify(rest, (_key, value) => typeof value === 'bigint' ? `${value}n` : value);
    await writeFile(path.join(directory, 'rest.json'), text);
}
export async function loadRecording(directory) {
    const text = await readFile(path.join(directory, 'rest.json'), 'utf8');
    const rest = JSON.parse(text, (_key, value) => typeof value === 'string' && BIGINT.test(value) ? BigInt(value.slice(0, -1)) : value);
    const operationLog = path.join(directory, 'operations');
    return {
        ...rest,
        baseLsns: new Map(rest.baseLsns),
        operationLog,
        operations: await readOperationLog(operationLog),
        memberDirectory: await memberDirectory(path.join(directory, 'store')),
    };
}
//# sourceMappingURL=kept_recording.js.map