import t from 'tap';
import { jsonOf } from '../../cli/json.js';
import { formatBytes, formatDuration, percent } from '../../cli/quantity.js';
import { painter, printable, renderTable } from '../../cli/table.js';
import { Recorder } from './canned.js';
t.test('sizes', (t) => {
    const sizes = [
        [0n, '0 B'],
        [1023n, '1023 B'],
        [1024n, '1.0 KiB'],
        [1536n, '1.5 KiB'],
        [1024n ** 2n - 1n, '1.0 MiB'],
        [10n * 1024n ** 3n, '10.0 GiB'],
        [1024n ** 5n * 5000n, '5000.0 PiB'],
    ];
    for (const [bytes, text] of sizes)
        t.equal(formatBytes(bytes), text);
    t.end();
});
t.test('durations keep two or three figures', (t) => {
    const durations = [
        [0n, '0.0 ms'],
        [300000n, '0.3 ms'],
        [9990000n, '10 ms'],
        [250000000n, '250 ms'],
        [999900000n, '1.0 s'],
        [12340000000n, '12.3 s'],
        [59990000000n, '1 m 00 s'],
        [303000000000n, '5 m 03 s'],
        [3599700000000n, '1 h 00 m'],
        [7500000000000n, '2 h 05 m'],
        [90000000000000n, '25 h 00 m'],
    ];
    for (const [nanoseconds, text] of durations)
        t.equal(formatDuration(nanoseconds), text);
    t.end();
});
t.test('shares round down, and nothing of nothing is all', (t) => {
    t.equal(percent(999n, 1000n), 99);
    t.equal(percent(0n, 0n), 100);
    t.end();
});
t.test('a table from another machine cannot reach the terminal', (t) => {
    t.equal(printable('a\x1b[2Jb\nc\x9b'), 'a?[2Jb?c?');
    const columns = [{ heading: 'N', align: 'left' }];
    const paint = painter(new Recorder(true), {});
    t.equal(renderTable(columns, [[{ text: '\x1b[31m', colour: 'green' }]], paint), '\x1b[1mN\x1b[0m    \n\x1b[32m?[31m\x1b[0m\n'.replace('    ', ''));
    t.end();
});
t.test('colour on terminals only, and not with NO_COLOR', (t) => {
    t.equal(painter(new Recorder(true), {})('x', 'red'), '\x1b[31mx\x1b[0m');
    t.equal(painter(new Recorder(true), { NO_COLOR: '' })('x', 'red'), '\x1b[31mx\x1b[0m');
    t.equal(painter(new Recorder(true), { NO_COLOR: '1' })('x', 'red'), 'x');
    t.equal(painter(new Recorder(false), {})('x', 'red'), 'x');
    t.end();
});
t.test('JSON: what is text, what is a number, and which instants are not', (t) => {
    t.strictSame(jsonOf({
        lsn: 1n,
        lagNs: 2n,
        timeNs: 3n,
        endNs: 0n,
        bytes: 4n,
        generations: 5n,
        text: 'x',
        list: [{ lastLsn: 6n }],
        none: null,
    }), {
        lsn: '1',
        lagNs: '2',
        timeNs: '3',
        time: '1970-01-01T00:00:00.000000003Z',
        endNs: null,
        end: null,
        bytes: 4,
        generations: 5,
        text: 'x',
        list: [{ lastLsn: '6' }],
        none: null,
    });
    t.end();
});
//# sourceMappingURL=quantity.test.js.map