import t from 'tap';
import { formatTime } from '../../proto/time.js';
t.test('times have nine digits, zeros included', (t) => {
    t.equal(formatTime(0n), '1970-01-01T00:00:00.000000000Z');
    t.equal(formatTime(1769854500000000001n), '2026-01-31T10:15:00.000000001Z');
    t.end();
});
//# sourceMappingURL=time.test.js.map