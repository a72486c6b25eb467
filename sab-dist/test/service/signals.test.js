import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, {} from 'tap';
const CHILD = `
  import { stopSignals } from ${JSON.stringify(new URL('../../service/signals.js', import.meta.url).href)};
  const stop = stopSignals();
  const alive = setInterval(() => {}, 1000);
  stop.drain.addEventListener('abort', () => console.log('drain', stop.drain.reason.code, stop.drain.reason.message, stop.end.aborted));
  stop.end.addEventListener('abort', () => { console.log('end', stop.end.reason.message); stop.dispose(); clearInterval(alive); });
  console.log(process.pid);
  console.log('ready');
`;
/** The kernel has sent SIGHUP, and the process acted on it. */
const HANGUP_MS = 300;
function child() {
    const started = spawn(process.execPath, ['--input-type=module', '-e', CHILD], {
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    started.stdout.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    const says = async (expected) => {
        while (!text.includes(expected))
            await once(started.stdout, 'data');
    };
    return { started, says };
}
t.test('the first signal drains, the second ends', async (t) => {
    const { started, says } = child();
    t.teardown(() => started.kill('SIGKILL'));
    await says('ready\n');
    started.kill('SIGTERM');
    await says('drain INTERRUPTED SIGTERM false\n');
    started.kill('SIGINT');
    await says('end SIGINT\n');
    const [code, signal] = (await once(started, 'exit'));
    t.same([code, signal], [0, null], 'the process ended by itself');
});
/** Starts the child on a terminal of its own, closes that, and gives what the child said. */
async function hungUp(t, launcher) {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-signals-'));
    const said = path.join(directory, 'said');
    await writeFile(path.join(directory, 'child.mjs'), CHILD);
    const line = `${launcher} '${process.execPath}' '${directory}/child.mjs' > '${said}' 2>&1`;
    const terminal = spawn('script', ['-qec', line, '/dev/null'], { stdio: 'ignore' });
    const until = async (pattern) => {
        for (;;) {
            const text = await readFile(said, 'utf8').catch(() => '');
            if (pattern.test(text))
                return text;
            await delay(20);
        }
    };
    const pid = Number(/^(\d+)\nready\n/m.exec(await until(/ready\n/))?.[1]);
    t.teardown(async () => {
        if (existsSync(`/proc/${pid}`))
            process.kill(pid, 'SIGKILL');
        await rm(directory, { recursive: true });
    });
    terminal.kill('SIGKILL');
    await once(terminal, 'exit');
    await delay(HANGUP_MS);
    process.kill(pid, 'SIGTERM');
    return until(/(drain|end) .*SIGTERM/);
}
t.test('a terminal that closes drains too', async (t) => {
    t.match(await hungUp(t, ''), /\ndrain INTERRUPTED SIGHUP false\nend SIGTERM\n/);
});
t.test('a terminal that closes does not concern what nohup started', async (t) => {
    // Symptom: `nohup afterimage agent run &` drained when the terminal closed, and took the volumes away.
    t.match(await hungUp(t, 'nohup'), /\ndrain INTERRUPTED SIGTERM false\n/);
});
//# sourceMappingURL=signals.test.js.map