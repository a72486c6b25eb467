import t from 'tap';
import { Throughput } from '../../service/throughput.js';
t.test('throughput is that of the last ten seconds', (t) => {
    let nowMs = 5_000_000;
    const it = new Throughput(() => nowMs);
    it.add(1000);
    nowMs += 1000;
    it.add(9000);
    t.equal(it.bytesPerSecond(), 1000n);
    nowMs += 9000;
    t.equal(it.bytesPerSecond(), 900n, 'the first second is over');
    nowMs += 60_000;
    t.equal(it.bytesPerSecond(), 0n);
    t.end();
});
//# sourceMappingURL=throughput.test.js.map