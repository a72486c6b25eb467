import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';
function logged(write) {
    const lines = [];
    const log = createLog('agent', 'info', {
        write: (line) => void lines.push(JSON.parse(line)),
    });
    write(log);
    return lines;
}
t.test('a line names daemon, level and time, and what its part adds', (t) => {
    const [line] = logged((log) => log.child({ group: 'db' }).warn({ volumes: 2 }, 'resync begins'));
    t.match(line, { level: 'warn', daemon: 'agent', group: 'db', volumes: 2, msg: 'resync begins' });
    t.match(line?.['time'], /^\d{4}-\d\d-\d\dT.*Z$/);
    t.end();
});
t.test('numbers of 64 bits come out whole, at any depth', (t) => {
    const lsn = 2n ** 63n + 1n;
    const [line] = logged((log) => log.info({ lsn, ack: { durable: [lsn] } }, 'x'));
    t.match(line, { lsn: '9223372036854775809', ack: { durable: ['9223372036854775809'] } });
    t.end();
});
t.test('an error is logged with its code, hint and stack', (t) => {
    const [line] = logged((log) => log.error({ err: new AfterimageError('RING_FULL', 'db') }, 'x'));
    t.match(line, { err: { code: 'RING_FULL', message: 'db', hint: String, stack: /log\.test/ } });
    t.end();
});
t.test('what is below the level is not written', (t) => {
    t.equal(logged((log) => log.debug('x')).length, 0);
    t.end();
});
t.test('a log that cannot be written costs lines, not the daemon', async (t) => {
    // A full disk under the log was an `error` event that nobody heard: it ended agents and receivers.
    const module = new URL('../../service/log.js', import.meta.url).href;
    const script = `
    const { createLog } = await import(${JSON.stringify(module)});
    const log = createLog('agent', 'info');
    for (let line = 0; line < 100; line += 1) log.info({ text: 'x'.repeat(100_000) }, 'a line');
    await new Promise((resolve) => setImmediate(resolve));
    console.log('alive');`;
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', full],
    });
    closeSync(full);
    let said = '';
    child.stdout?.on('data', (text) => (said += text.toString()));
    const [code] = (await once(child, 'close'));
    t.equal(said, 'alive\n');
    t.equal(code, 0);
});
//# sourceMappingURL=log.test.js.map