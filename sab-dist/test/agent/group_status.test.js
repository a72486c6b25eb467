import t from 'tap';
import { rpoLagNs } from '../../agent/group_status.js';
t.test('the lag of a group, by what its ring says', (t) => {
    const base = { streaming: true, oldestTimeNs: 0n, capturedTimeNs: 0n, records: 0n };
    const lag = (stats) => rpoLagNs({ ...base, ...stats }, 100n, 10n);
    t.equal(lag({ capturedTimeNs: 70n, records: 5n }), 0n, 'everything is durable');
    t.equal(lag({ oldestTimeNs: 60n, capturedTimeNs: 70n, records: 5n }), 40n);
    // It read 0 as soon as the ring had been emptied of a stream that had ended.
    t.equal(lag({ streaming: false, capturedTimeNs: 70n, records: 5n }), 30n, 'since the last record');
    t.equal(lag({ streaming: false, oldestTimeNs: 60n, capturedTimeNs: 70n, records: 5n }), 40n);
    t.equal(lag({ streaming: false, capturedTimeNs: 7n }), 90n, 'nothing was recorded: since the start');
    t.end();
});
//# sourceMappingURL=group_status.test.js.map