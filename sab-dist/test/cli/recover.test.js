import { once } from 'node:events';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { cannedReceiver, invoke, LSN, Recorder, recoverProgress, temporary, } from './canned.js';
const ARGV = ['recover', 'db', '--at', 'latest', '--to', 'rescue'];
const twoVolumes = async function* () {
    await Promise.resolve();
    for (const volume of ['data', 'log']) {
        for (let done = 0n; done <= 1000n; done += 20n)
            yield recoverProgress(done, 'copy', volume);
        yield recoverProgress(1000n, 'verify', volume);
        yield recoverProgress(1000n, 'done', volume);
    }
};
t.test('a group into a directory: a line every ten per cent, then what was made', async (t) => {
    const runDir = await temporary(t);
    const asked = await cannedReceiver(t, runDir, { recover: twoVolumes });
    const { status, stdout, stderr } = await invoke(runDir, ARGV);
    t.equal(status, 0);
    t.same(asked, [
        [
            'recover',
            {
                group: 'db',
                volume: '',
                point: 'latest',
                target: `${runDir}/rescue`,
                overwrite: false,
                force: false,
            },
        ],
    ]);
    const sha = 'ab'.repeat(32);
    t.equal(stdout, `recovered db at lsn:${LSN}, 2026-01-31T10:15:00.123456789Z
VOLUME  TARGET           SIZE  WRITTEN  SHA-256
data    /srv/data.img  1000 B    500 B  ${sha}
log     /srv/log.img   1000 B    500 B  ${sha}
`);
    const lines = stderr.trimEnd().split('\n');
    t.equal(lines.length, 24, '0 to 100 % and a verification, twice');
    t.equal(lines[3], 'copying data: 30 %, 300 B of 1000 B');
    t.equal(lines[11], 'verifying data: 100 %, 1000 B of 1000 B');
});
t.test('one volume onto a device, overwriting, as JSON', async (t) => {
    const runDir = await temporary(t);
    const asked = await cannedReceiver(t, runDir, { recover: twoVolumes });
    const argv = ['recover', 'db/data', '--at', 'lsn:5', '--to', '/dev/x', '--yes', '--force', '--json'];
    const { stdout, stderr } = await invoke(runDir, argv);
    t.same(asked, [
        [
            'recover',
            { group: 'db', volume: 'data', point: 'lsn:5', target: '/dev/x', overwrite: true, force: true },
        ],
    ]);
    t.match(JSON.parse(stdout), {
        group: 'db',
        volumes: [{ volume: 'data', bytesTotal: 1000, bytesWritten: 500, lsn: `${LSN}` }, { volume: 'log' }],
    });
    t.match(JSON.parse(stderr.split('\n')[1] ?? ''), {
        progress: { volume: 'data', phase: 'copy', bytesDone: 100 },
    });
});
t.test('a terminal shows a bar that is gone at the end', async (t) => {
    const runDir = await temporary(t);
    await cannedReceiver(t, runDir, { recover: twoVolumes });
    const stderr = new Recorder(true);
    await invoke(runDir, ARGV, { stderr });
    t.match(stderr.text, '\r\x1b[Kcopy data [###############...............] 50 %, 500 B of 1000 B'.slice(4));
    t.ok(stderr.text.endsWith('\r\x1b[K'));
    t.notMatch(stderr.text, '\n');
});
t.test('a target that is not empty: a terminal is asked, others are refused', async (t) => {
    const runDir = await temporary(t);
    const asked = await cannedReceiver(t, runDir, {
        async *recover({ overwrite }) {
            await Promise.resolve();
            if (!overwrite)
                throw new AfterimageError('TARGET_NOT_EMPTY', '/srv/rescue holds 3 files');
            yield recoverProgress(1000n, 'done');
        },
    });
    const refused = await invoke(runDir, ARGV);
    t.equal(refused.status, 4);
    t.match(refused.stderr, /^error TARGET_NOT_EMPTY: \/srv\/rescue holds 3 files\n {2}→ .*--yes/);
    const questions = [];
    const answering = (answer) => (question) => {
        questions.push(question);
        return Promise.resolve(answer);
    };
    t.equal((await invoke(runDir, ARGV, { ask: answering(false) })).status, 4);
    t.equal((await invoke(runDir, ARGV, { ask: answering(true) })).status, 0);
    t.same(questions, Array(2).fill('/srv/rescue holds 3 files. Overwrite it?'));
    t.equal((await invoke(runDir, [...ARGV, '--json'], { ask: answering(true) })).status, 4, 'a program is not asked');
    t.same(asked.map(([, request]) => request.overwrite), [false, false, false, true, false]);
});
t.test('Ctrl-C in the middle: 130, where it stopped, and how it is resumed', async (t) => {
    const runDir = await temporary(t);
    let end;
    const cleanedUp = new Promise((resolve) => (end = resolve));
    await cannedReceiver(t, runDir, {
        async *recover(_request, { signal }) {
            try {
                yield recoverProgress(420n);
                await once(signal, 'abort');
            }
            finally {
                end(undefined);
            }
        },
    });
    const interrupt = new AbortController();
    const stderr = new Recorder(false, (text) => {
        if (text.includes('42 %'))
            interrupt.abort();
    });
    const { status, stdout } = await invoke(runDir, ARGV, {
        stderr,
        stop: { drain: interrupt.signal, end: interrupt.signal },
    });
    t.strictSame([status, stdout], [130, '']);
    t.match(stderr.text, `error INTERRUPTED: the recovery stopped copying data at 42 %; with --at lsn:${LSN} it goes on from there\n`);
    await cleanedUp;
});
t.test('whatever ends a recovery in the middle, how it is resumed is said, unless it cannot be', async (t) => {
    for (const [code, isResumable] of [
        ['DISK_FULL', true],
        ['VERIFY_FAILED', false],
    ]) {
        const runDir = await temporary(t);
        await cannedReceiver(t, runDir, {
            async *recover() {
                await Promise.resolve();
                yield recoverProgress(420n);
                throw new AfterimageError(code, '/srv/rescue');
            },
        });
        const { stderr } = await invoke(runDir, ARGV);
        t.match(stderr, `error ${code}: /srv/rescue`);
        t.equal(stderr.includes(`with --at lsn:${LSN} it goes on`), isResumable, code);
    }
});
//# sourceMappingURL=recover.test.js.map