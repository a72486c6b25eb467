/** Ctrl-C in the demo, wherever it is: it says so, ends with 130, and takes everything that it started with it. */
import { spawn } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ended } from './command.js';
import { leftovers } from './leftovers.js';
import { Scratch } from './scratch.js';
import { pseudorandom, SEED } from './seed.js';
t.setTimeout(300_000);
const DEMO = fileURLToPath(new URL('demo.js', import.meta.url));
/** What the demo says when it begins a stage: one moment is taken while it starts, one under load. */
const STARTING = ['starting a receiver', 'initial sync runs', 'PostgreSQL on it'];
const UNDER_LOAD = ['pgbench with', 'checkpoint before-upgrade'];
const DELAY_MS_MAX = 2000;
t.test(`Ctrl-C ends the demo and leaves nothing (seed ${SEED})`, async (t) => {
    const random = pseudorandom(SEED);
    for (const stages of [STARTING, UNDER_LOAD]) {
        const stage = stages[Math.floor(random() * stages.length)];
        const delayMs = Math.floor(random() * DELAY_MS_MAX);
        const moment = `${delayMs} ms after "${stage}"`;
        const scratch = await Scratch.create('ctrl-c');
        t.teardown(() => scratch.clean());
        const temporary = scratch.path('tmp');
        await mkdir(temporary);
        const demo = spawn(process.execPath, [DEMO], {
            stdio: ['ignore', 'pipe', 'pipe'],
            env: { ...process.env, TMPDIR: temporary },
            detached: true,
        });
        const group = -(demo.pid ?? 0);
        scratch.defer('demo', () => {
            if (demo.exitCode === null && demo.signalCode === null)
                process.kill(group, 'SIGKILL');
        });
        let [stdout, stderr] = ['', ''];
        demo.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
        demo.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
        while (!stderr.includes(stage)) {
            if (demo.exitCode !== null)
                throw new Error(`the demo ended before "${stage}":\n${stderr}`);
            await sleep(5);
        }
        await sleep(delayMs);
        // As a terminal does it: the programs that the demo waits for get it as well.
        process.kill(group, 'SIGINT');
        t.equal(await ended(demo, 90), 130, `${moment}: ends with 130`);
        t.same(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''), { demo: 'interrupted' }, 'and says so last');
        // The process that stands by for the demo goes a moment after it.
        const deadline = Date.now() + 5000;
        let left = await leftovers(scratch.directory);
        for (; left.processes.length > 0 && Date.now() < deadline; left = await leftovers(scratch.directory))
            await sleep(20);
        const { processes, mounts, loops, sockets, links } = left;
        t.same([processes, mounts, loops, sockets], [[], [], [], []], 'nothing of it is attached');
        t.same(links.filter((link) => link.startsWith('/dev/afterimage/shop/')), [], 'no link is left');
        t.same(await readdir(temporary), [], 'and no file');
    }
});
//# sourceMappingURL=demo_interrupt.test.js.map