/** Ages are reckoned in the time that receivers ran: no clock that somebody sets is in it. */
import t from 'tap';
import { Catalog } from '../../../receiver/catalog/catalog.js';
import { RunningTime } from '../../../receiver/retention/running_time.js';
t.test('it goes on where the last receiver wrote it down, and never back', (t) => {
    const catalog = Catalog.open(`${t.testdir()}/catalog.sqlite`);
    t.teardown(() => catalog.close());
    let ms = 5000;
    const first = new RunningTime(catalog.windows, () => ms);
    t.equal(first.nowNs(), 0n);
    ms += 90_000;
    t.equal(first.nowNs(), 90000000000n);
    first.persist();
    ms += 1000;
    // Another process, another clock: what ran since it was written down is lost, and nothing else counts.
    ms = 17;
    const second = new RunningTime(catalog.windows, () => ms);
    t.equal(second.nowNs(), 90000000000n);
    ms += 1;
    t.equal(second.nowNs(), 90001000000n);
    catalog.windows.setElapsed(1n);
    t.equal(catalog.windows.elapsedNs(), 90000000000n);
    t.end();
});
//# sourceMappingURL=running_time.test.js.map