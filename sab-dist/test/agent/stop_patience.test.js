import t from 'tap';
import { StopPatience } from '../../agent/stop_patience.js';
t.test('a stop waits as long as records become durable, and 10 s longer', (t) => {
    // It gave up after 10 s in all: a full ring over a slow link never got there, and was compared in full afterwards.
    const patience = new StopPatience(0);
    for (let second = 0; second <= 60; second += 1) {
        t.equal(patience.isOver(second * 1000, BigInt(Math.floor(second / 9)), true), false, `after ${second} s`);
    }
    const stalled = [64, 65].map((second) => patience.isOver(second * 1000, 6n, true));
    t.strictSame(stalled, [true, true]);
    t.end();
});
t.test('a receiver that is away is waited for 2 s, whenever it goes', (t) => {
    const patience = new StopPatience(0);
    t.equal(patience.isOver(1_999, 1n, false), false);
    t.equal(patience.isOver(2_000, 1n, false), true);
    const flapping = new StopPatience(0);
    t.equal(flapping.isOver(4_000, 1n, true), false);
    t.equal(flapping.isOver(5_900, 1n, false), false);
    t.equal(flapping.isOver(6_000, 1n, false), true);
    t.end();
});
//# sourceMappingURL=stop_patience.test.js.map