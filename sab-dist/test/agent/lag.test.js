import t from 'tap';
import { LagHistogram } from '../../agent/lag.js';
/** Numbers that repeat with their seed (mulberry32). */
function seeded(seed) {
    return () => {
        seed = (seed + 0x6d2b79f5) | 0;
        let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
        return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
    };
}
t.test('percentiles of samples over six orders of magnitude agree with the sorted array', (t) => {
    const random = seeded(1);
    const lag = new LagHistogram(() => 0);
    const samples = Array.from({ length: 5000 }, () => Math.round(2_000 * 10 ** (random() * 6)));
    for (const sample of samples)
        lag.record(BigInt(sample));
    samples.sort((a, b) => a - b);
    for (const share of [0.01, 0.5, 0.9, 0.99, 1]) {
        const exact = samples[Math.ceil(samples.length * share) - 1] ?? 0;
        const measured = Number(lag.lastMinute(share));
        t.ok(measured >= exact && measured <= exact * 2 ** (1 / 8) + 1, `${share}: ${measured} for ${exact}`);
    }
    t.end();
});
t.test('the last minute forgets what is older', (t) => {
    let nowMs = 0;
    const lag = new LagHistogram(() => nowMs);
    lag.record(1000000000n);
    nowMs = 30_000;
    lag.record(1000000n);
    t.ok(lag.lastMinute(1) >= 1000000000n);
    nowMs = 60_500;
    t.ok(lag.lastMinute(1) < 1200000n, 'the slow one is over a minute old');
    nowMs = 95_000;
    t.equal(lag.lastMinute(1), 0n, 'a minute without samples');
    nowMs = 10_000_000;
    lag.record(5000n);
    t.ok(lag.lastMinute(1) <= 6000n, 'after hours of silence no old slice comes back');
    t.end();
});
t.test('a clock that was stepped back, and a lag beyond all bounds', (t) => {
    const lag = new LagHistogram(() => 0);
    t.equal(lag.lastMinute(0.5), 0n);
    lag.record(-5n);
    t.equal(lag.lastMinute(1), 1000n);
    lag.record(2n ** 62n);
    t.ok(lag.lastMinute(1) > 0n);
    t.end();
});
//# sourceMappingURL=lag.test.js.map