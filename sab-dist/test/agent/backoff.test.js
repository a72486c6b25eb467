import t from 'tap';
import { BACKOFF_MS_MAX, BACKOFF_MS_MIN, backoffMs } from '../../agent/backoff.js';
t.test('the first attempt does not wait', (t) => {
    t.equal(backoffMs(0, () => 0.999), 0);
    t.end();
});
t.test('the bound doubles from attempt to attempt until it is ten seconds', (t) => {
    const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((attempt) => backoffMs(attempt, () => 1));
    t.strictSame(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    t.equal(backoffMs(5000, () => 1), BACKOFF_MS_MAX);
    t.end();
});
t.test('full jitter: anything from nothing to the bound', (t) => {
    t.equal(backoffMs(1, () => 0), 0);
    t.equal(backoffMs(1, () => 0.5), BACKOFF_MS_MIN / 2);
    t.end();
});
//# sourceMappingURL=backoff.test.js.map