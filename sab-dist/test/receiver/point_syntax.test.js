import t from 'tap';
import { formatTime } from '../../proto/time.js';
import { parsePoint } from '../../receiver/point_syntax.js';
const S = 1000000000n;
t.test('every way to write a point', (t) => {
    t.same(parsePoint('latest'), { kind: 'latest' });
    t.same(parsePoint('lsn:18446744073709551615'), { kind: 'lsn', member: null, lsn: 2n ** 64n - 1n });
    t.same(parsePoint('lsn:web1:42'), { kind: 'lsn', member: 'web1', lsn: 42n });
    t.same(parsePoint('checkpoint:before-upgrade'), { kind: 'checkpoint', name: 'before-upgrade' });
    t.same(parsePoint('-90s'), { kind: 'ago', ns: 90n * S });
    t.same(parsePoint('-5m'), { kind: 'ago', ns: 300n * S });
    t.same(parsePoint('-2h'), { kind: 'ago', ns: 7200n * S });
    t.end();
});
t.test('times up to the nanosecond, in any zone', (t) => {
    const timeNs = 1767323045n * S;
    t.same(parsePoint('2026-01-02T03:04:05Z'), { kind: 'time', timeNs });
    t.same(parsePoint('2026-01-02T03:04:05.000000001Z'), { kind: 'time', timeNs: timeNs + 1n });
    t.same(parsePoint('2026-01-02t04:34:05.5+01:30'), { kind: 'time', timeNs: timeNs + S / 2n });
    t.equal(formatTime(timeNs + 7n), '2026-01-02T03:04:05.000000007Z');
    t.end();
});
t.test('what is no point is refused', (t) => {
    const wrong = [
        '',
        'newest',
        'lsn:',
        'lsn:-1',
        'lsn:18446744073709551616',
        '90s',
        '-90',
        '-90d',
        'checkpoint:',
        '2026-01-02',
        '2026-01-02T03:04:05', // without a zone it is not an instant
        '2026-02-30T03:04:05Z',
        '2026-01-02T24:00:00Z',
        '2026-01-02T03:04:05.0000000001Z',
        '1969-12-31T23:59:59Z',
    ];
    for (const text of wrong)
        t.throws(() => parsePoint(text), { code: 'POINT_INVALID' }, text);
    t.end();
});
//# sourceMappingURL=point_syntax.test.js.map