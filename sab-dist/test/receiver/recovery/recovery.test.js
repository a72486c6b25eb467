import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import t, {} from 'tap';
import * as native from '../../../native/index.js';
import { AfterimageError, toAfterimageError } from '../../../proto/errors.js';
import { formatUuid } from '../../../proto/uuid.js';
import { Recovery } from '../../../receiver/recovery/recovery.js';
import { isRoot, skipUnless } from '../../prerequisite.js';
const MIB = 1024 * 1024;
const SIZE = 24 * MIB;
const never = new AbortController().signal;
const run = promisify(execFile);
const skip = skipUnless(isRoot, 'root, for mounts and loop devices');
/** A volume of SIZE bytes at a point, read from a file: half of it is zero. */
async function scene(test, replaced = {}) {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-recovery-'));
    test.teardown(() => rm(directory, { recursive: true, force: true }));
    const content = randomBytes(SIZE);
    content.fill(0, 6 * MIB, 18 * MIB);
    const source = path.join(directory, 'source');
    await writeFile(source, content);
    const lsn = { value: 7n };
    // Identities are random in all their bits: this one has neither version nor variant of RFC 9562.
    const uuid = formatUuid(Buffer.alloc(16, 0xf7));
    const openSource = () => native.openFileDevice({ path: source, cache: 'buffered', readOnly: true, exclusive: false });
    let elapsedMs = 0;
    const recovery = new Recovery({
        points: {
            resolve: () => Promise.resolve({
                positions: [{ lsn: lsn.value, timeNs: 1n }],
                text: `lsn:${lsn.value}`,
            }),
            volumes: () => ({
                volumes: [
                    {
                        volume: { uuid, name: 'data' },
                        lsn: lsn.value,
                        size: BigInt(SIZE),
                        open: openSource,
                    },
                ],
                release: () => undefined,
            }),
        },
        native: { ...native, badBaseOffsets: () => [], ...replaced },
        storeDirectory: await made(directory, 'store'),
        runDirectory: path.join(directory, 'run'),
        elapsedMs: () => (elapsedMs += 1000),
        log: pino({ level: 'silent' }),
    });
    return { directory, content, recovery, lsn };
}
async function made(directory, name) {
    const made = path.join(directory, name);
    await mkdir(made);
    return made;
}
function request(target, change = {}) {
    return { group: 'db', volume: 'data', point: 'latest', target, overwrite: false, force: false, ...change };
}
async function all(messages) {
    const list = [];
    for await (const message of messages)
        list.push(message);
    return list;
}
/** Interrupts the recovery once half of it is written. */
async function interrupt({ recovery }, target, volume = 'data') {
    const abort = new AbortController();
    for await (const { bytesDone } of recovery.run(request(target, { volume }), abort.signal)) {
        if (bytesDone >= BigInt(SIZE / 2))
            abort.abort();
    }
}
t.test('a new file becomes sparse: zeroes are not written', async (t) => {
    const { directory, content, recovery } = await scene(t);
    const target = path.join(directory, 'out');
    const last = (await all(recovery.run(request(target), never))).at(-1);
    t.match(last, { phase: 'done', bytesDone: BigInt(SIZE), bytesWritten: BigInt(SIZE / 2), lsn: 7n });
    t.ok(content.equals(await readFile(target)));
    t.ok((await stat(target)).blocks * 512 < SIZE * 0.75);
});
t.test('an interrupted recovery goes on where it stopped, to the same point only', async (t) => {
    const here = await scene(t);
    const { directory, content, recovery, lsn } = here;
    const target = path.join(directory, 'out');
    await t.rejects(interrupt(here, target), { code: 'INTERRUPTED' });
    lsn.value = 8n;
    const another = { code: 'TARGET_NOT_EMPTY', message: /out holds a recovery of lsn:7 that was interrupted/ };
    await t.rejects(all(recovery.run(request(target), never)), another);
    lsn.value = 7n;
    const messages = await all(recovery.run(request(target), never));
    t.ok((messages[0]?.bytesDone ?? 0n) >= BigInt(SIZE / 2), 'nothing is copied twice');
    t.ok(content.equals(await readFile(target)));
    t.notOk((await readdir(directory)).some((name) => name.endsWith('-resume')));
});
t.test('a directory with a recovery of another point names that point', async (t) => {
    // `latest` was another point when the command was repeated: all that could be done was to begin anew.
    const here = await scene(t);
    const target = await made(here.directory, 'group');
    await t.rejects(interrupt(here, target, ''), { code: 'INTERRUPTED' });
    here.lsn.value = 8n;
    await t.rejects(all(here.recovery.run(request(target, { volume: '' }), never)), {
        code: 'TARGET_NOT_EMPTY',
        message: /data\.img holds a recovery of lsn:7 that was interrupted/,
    });
});
t.test('a caller that goes away leaves a recovery that can go on', async (t) => {
    const { directory, content, recovery } = await scene(t);
    const target = path.join(directory, 'out');
    for await (const { bytesDone } of recovery.run(request(target), never)) {
        if (bytesDone >= BigInt(SIZE / 2))
            break;
    }
    const [first] = await all(recovery.run(request(target), never));
    t.ok((first?.bytesDone ?? 0n) >= BigInt(SIZE / 2));
    t.ok(content.equals(await readFile(target)));
});
t.test('a recovery that is being given up is waited for, one that goes on is not disturbed', async (t) => {
    const { directory, content, recovery } = await scene(t);
    const target = path.join(directory, 'out');
    const abort = new AbortController();
    const first = recovery.run(request(target), abort.signal);
    await first.next();
    await t.rejects(all(recovery.run(request(target), never)), { code: 'TARGET_BUSY' });
    abort.abort();
    const second = all(recovery.run(request(target), never));
    await t.rejects(all(first), { code: 'INTERRUPTED' });
    await second;
    t.ok(content.equals(await readFile(target)));
});
t.test('what the target gives back is not what was written: it is said, not hidden', async (t) => {
    const here = await scene(t);
    const target = path.join(here.directory, 'out');
    await t.rejects(interrupt(here, target), { code: 'INTERRUPTED' });
    const bytes = await readFile(target);
    bytes.writeUInt8(bytes.readUInt8(MIB) ^ 1, MIB);
    await writeFile(target, bytes);
    await t.rejects(all(here.recovery.run(request(target), never)), { code: 'VERIFY_FAILED' });
    // The progress stayed at the end of the volume: every further run, with --yes too, verified the same bytes again.
    await t.rejects(all(here.recovery.run(request(target), never)), { code: 'TARGET_NOT_EMPTY' });
    await all(here.recovery.run(request(target, { overwrite: true }), never));
    t.ok(here.content.equals(await readFile(target)));
});
t.test('what is verified comes from the disk', async (t) => {
    // A file was read back from the page cache, where it is as it was written whatever the disk made of it.
    const opened = [];
    const { directory, recovery } = await scene(t, {
        openFileDevice: (options) => {
            opened.push(options);
            return native.openFileDevice(options);
        },
    });
    await all(recovery.run(request(path.join(directory, 'out')), never));
    t.match(opened.at(-1), { path: path.join(directory, 'out'), cache: 'direct', readOnly: true });
});
t.test('overwriting goes on with what is half done, and copies anew what is complete', async (t) => {
    const here = await scene(t);
    const { recovery, directory, content } = here;
    const target = path.join(directory, 'out');
    await t.rejects(interrupt(here, target), { code: 'INTERRUPTED' });
    const abort = new AbortController();
    const run = async () => {
        let first;
        for await (const { bytesDone, phase } of recovery.run(request(target, { overwrite: true }), abort.signal)) {
            first ??= bytesDone;
            if (phase === 'verify')
                abort.abort();
        }
        return first;
    };
    await t.rejects(run(), { code: 'INTERRUPTED' });
    await writeFile(target, randomBytes(SIZE));
    const messages = await all(recovery.run(request(target, { overwrite: true }), never));
    t.equal(messages[0]?.bytesDone, 0n);
    t.ok(content.equals(await readFile(target)));
});
t.test('another file under the same name is not gone on with', async (t) => {
    const here = await scene(t);
    const target = path.join(here.directory, 'out');
    await t.rejects(interrupt(here, target), { code: 'INTERRUPTED' });
    const mine = randomBytes(SIZE);
    await writeFile(`${target}.mine`, mine);
    await rename(`${target}.mine`, target);
    await t.rejects(all(here.recovery.run(request(target), never)), { code: 'TARGET_NOT_EMPTY' });
    t.ok(mine.equals(await readFile(target)));
});
t.test('a target that fills up says so, and by its name', { skip }, async (t) => {
    // It was "IO_ERROR: copy at N": of what, and on which side, nobody knew.
    const { directory, recovery } = await scene(t);
    const small = await made(directory, 'small');
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', small]);
    t.teardown(() => run('umount', [small]));
    const target = path.join(small, 'out');
    await t.rejects(all(recovery.run(request(target), never)), {
        code: 'DISK_FULL',
        message: new RegExp(`${target}.*write the target at \\d+: No space left`),
    });
    await run('mount', ['-o', 'remount,ro', small]);
    const other = path.join(small, 'other');
    await t.rejects(all(recovery.run(request(other), never)), {
        code: 'PERMISSION_DENIED',
        message: new RegExp(other),
    });
});
t.test('a journal that is damaged is not taken for a target that fails', async (t) => {
    const damaged = { errno: 74, message: 'read the source at 0: Bad message', code: 'IO_ERROR' };
    const { directory, recovery } = await scene(t, {
        copyRange: () => Promise.reject(toAfterimageError(Object.assign(new Error(damaged.message), damaged))),
    });
    await t.rejects(all(recovery.run(request(path.join(directory, 'out')), never)), {
        code: 'SEGMENT_CORRUPT',
    });
});
t.test('the first error counts, not the one of clearing up after it', async (t) => {
    const { directory, recovery } = await scene(t, {
        copyRange: () => {
            const fault = Object.assign(new Error('write the target at 0: no space'), {
                errno: 28,
                code: 'IO_ERROR',
            });
            return Promise.reject(toAfterimageError(fault));
        },
        openFileDevice: async (options) => {
            const device = await native.openFileDevice(options);
            const flush = () => Promise.reject(new AfterimageError('IO_ERROR', 'flush'));
            return { size: device.size, flush, close: () => device.close() };
        },
    });
    await t.rejects(all(recovery.run(request(path.join(directory, 'out')), never)), { code: 'DISK_FULL' });
});
t.test('a group that is interrupted keeps what is done, and nothing else is taken for it', async (t) => {
    const here = await scene(t);
    const directory = path.join(here.directory, 'group');
    await t.rejects(interrupt(here, path.join(directory, 'data.img')), { code: 'TARGET_INVALID' });
    await mkdir(directory);
    await t.rejects(interrupt(here, path.join(directory, 'data.img')), { code: 'INTERRUPTED' });
    const [first] = await all(here.recovery.run(request(directory, { volume: '' }), never));
    t.ok((first?.bytesDone ?? 0n) >= BigInt(SIZE / 2));
    t.same(await readdir(directory), ['data.img']);
});
t.test('a file that somebody holds is not cut', async (t) => {
    const { directory, recovery } = await scene(t);
    const target = path.join(directory, 'held');
    await writeFile(target, randomBytes(MIB));
    const options = { path: target, cache: 'buffered', readOnly: false, exclusive: true };
    const held = await native.openFileDevice(options);
    await t.rejects(all(recovery.run(request(target, { overwrite: true }), never)), { code: 'TARGET_BUSY' });
    t.equal((await stat(target)).size, MIB);
    await held.close();
});
t.test('a device gets every byte, zeroes too, and only when told to', { skip }, async (t) => {
    const { directory, content, recovery } = await scene(t);
    const file = path.join(directory, 'disk');
    await writeFile(file, randomBytes(SIZE + MIB));
    const target = await native.attachLoop(file, 512, false);
    t.teardown(() => native.detachLoop(target));
    await t.rejects(all(recovery.run(request(target), never)), { code: 'TARGET_NOT_EMPTY' });
    await all(recovery.run(request(target, { overwrite: true }), never));
    t.ok(content.equals((await readFile(target)).subarray(0, SIZE)));
});
t.test('another disk under the name of an interrupted one is not written to', { skip }, async (t) => {
    // Its progress was known by the name alone: the command without --yes went on over the other disk.
    const here = await scene(t);
    const { directory, recovery } = here;
    const attach = async (name) => {
        await writeFile(path.join(directory, name), randomBytes(SIZE));
        return native.attachLoop(path.join(directory, name), 512, false);
    };
    const attached = new Set();
    t.teardown(() => Promise.all([...attached].map((device) => native.detachLoop(device))));
    const target = await attach('first');
    attached.add(target);
    const abort = new AbortController();
    const first = async () => {
        for await (const { bytesDone } of recovery.run(request(target, { overwrite: true }), abort.signal)) {
            if (bytesDone >= BigInt(SIZE / 2))
                abort.abort();
        }
    };
    await t.rejects(first(), { code: 'INTERRUPTED' });
    await t.rejects(all(recovery.run(request(target), AbortSignal.abort())), { code: 'INTERRUPTED' }, 'the same disk is gone on with');
    await native.detachLoop(target);
    attached.delete(target);
    // The kernel gives the lowest free number, unless somebody else was faster.
    let second = '';
    for (const deadline = Date.now() + 10_000; second !== target;) {
        if (Date.now() > deadline)
            throw new Error(`${target} was never free again`);
        second = await attach('second');
        if (second !== target)
            await native.detachLoop(second);
    }
    attached.add(second);
    const before = await readFile(second);
    await t.rejects(all(recovery.run(request(second), never)), { code: 'TARGET_NOT_EMPTY' });
    t.ok(before.equals(await readFile(second)));
});
t.test('a device that is too small', { skip }, async (t) => {
    const { directory, recovery } = await scene(t);
    const file = path.join(directory, 'disk');
    await writeFile(file, randomBytes(SIZE - MIB));
    const target = await native.attachLoop(file, 512, false);
    t.teardown(() => native.detachLoop(target));
    await t.rejects(all(recovery.run(request(target, { overwrite: true }), never)), {
        code: 'TARGET_TOO_SMALL',
    });
    t.equal((await readFile(target)).length, SIZE - MIB);
});
//# sourceMappingURL=recovery.test.js.map