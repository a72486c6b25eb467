import t from 'tap';
import { BackingErrors } from '../../agent/backing_errors.js';
import { createLog } from '../../service/log.js';
t.test('the log hears of failed requests at once, and then at most once a minute', (t) => {
    const lines = [];
    const write = (line) => void lines.push(JSON.parse(line));
    const log = createLog('agent', 'info', { write });
    const errors = new BackingErrors();
    for (const [count, second] of [
        [0n, 1],
        [2n, 2],
        [3n, 3],
        [9n, 61],
        [9n, 62],
        [9n, 200],
    ])
        errors.tell(count, 'volume data (/dev/vdb)', log, second * 1_000);
    t.match(lines, [
        {
            level: 'error',
            code: 'BACKING_FAILED',
            requests: '2',
            msg: 'failed requests of volume data (/dev/vdb): 2',
        },
        { level: 'error', requests: '7' },
    ]);
    t.equal(lines.length, 2);
    t.end();
});
//# sourceMappingURL=backing_errors.test.js.map