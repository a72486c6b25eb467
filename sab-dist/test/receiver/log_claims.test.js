import t from 'tap';
import { logAtHeartbeat, logAtHello } from '../../receiver/log_claims.js';
const KNOWN = { logId: 7n, sequence: 40n, whole: false };
const CLAIM = { volume: 0, id: 7n, sequence: 45n, basisLsn: 100n };
t.test('a log is believed that grew out of the one that was told of last', (t) => {
    t.same(logAtHello(KNOWN, CLAIM, 100n), { logId: 7n, sequence: 45n, whole: false });
    t.same(logAtHello(KNOWN, { ...CLAIM, sequence: 40n }, 200n), { logId: 7n, sequence: 40n, whole: false });
    t.same(logAtHeartbeat(KNOWN, CLAIM), { logId: 7n, sequence: 45n, whole: false });
    t.end();
});
t.test('everything is in doubt with any other', (t) => {
    for (const [what, claim] of Object.entries({
        'another one': { ...CLAIM, id: 8n },
        'one that was set back': { ...CLAIM, sequence: 39n },
        'one that unmarked on what is not here': { ...CLAIM, basisLsn: 101n },
        'a void one': { ...CLAIM, id: 0n },
        none: undefined,
    })) {
        t.ok(logAtHello(KNOWN, claim, 100n).whole, what);
    }
    t.ok(logAtHeartbeat(KNOWN, { ...CLAIM, id: 0n }).whole, 'that became void');
    t.end();
});
t.test('doubt stays until a sync of the whole', (t) => {
    const doubtful = logAtHello(KNOWN, { ...CLAIM, id: 8n }, 100n);
    t.same(logAtHello(doubtful, { ...CLAIM, id: 8n, sequence: 50n }, 100n), {
        logId: 8n,
        sequence: 50n,
        whole: true,
    });
    t.ok(logAtHeartbeat(doubtful, { ...CLAIM, id: 8n }).whole);
    t.end();
});
//# sourceMappingURL=log_claims.test.js.map