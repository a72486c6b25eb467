import t from 'tap';
import { ExtentSet } from '../../agent/extent_set.js';
const EXTENT = 4096;
function stretches(set, from = 0n) {
    const found = [];
    for (let at = set.next(from); at !== null; at = set.next(at.end))
        found.push(at);
    return found;
}
t.test('what is marked comes in stretches, cut off at the end of the volume', (t) => {
    const size = BigInt(19 * EXTENT + 512);
    const bitmap = Buffer.from([0b0000_0110, 0b1000_0000, 0b0000_1001]);
    const set = ExtentSet.of(size, EXTENT, bitmap);
    const at = (extent) => BigInt(extent * EXTENT);
    t.same(stretches(set), [
        { begin: at(1), end: at(3) },
        { begin: at(15), end: at(17) },
        { begin: at(19), end: size },
    ]);
    t.same(set.next(at(2) + 512n), { begin: at(2) + 512n, end: at(3) }, 'from within');
    t.equal(set.bytes, at(4) + 512n);
    t.ok(set.has(at(1)));
    t.ok(set.has(at(3) - 1n));
    t.notOk(set.has(at(3)));
    t.notOk(set.isWhole);
    t.end();
});
t.test('a set is what a walk over all bits says', (t) => {
    for (let round = 0; round < 50; round += 1) {
        const count = 1 + ((round * 37) % 70);
        const marks = Array.from({ length: count }, (_, extent) => (extent * 7 + round * 13) % 11 < round % 6);
        const bitmap = Buffer.alloc(Math.ceil(count / 8));
        marks.forEach((mark, extent) => {
            if (mark)
                bitmap[extent >> 3] = (bitmap[extent >> 3] ?? 0) | (1 << (extent & 7));
        });
        const set = ExtentSet.of(BigInt(count * EXTENT), EXTENT, bitmap);
        const found = stretches(set).flatMap(({ begin, end }) => Array.from({ length: Number(end - begin) / EXTENT }, (_, index) => Number(begin) / EXTENT + index));
        t.same(found, marks.flatMap((mark, extent) => (mark ? [extent] : [])));
    }
    t.end();
});
t.test('the whole volume, and nothing', (t) => {
    const whole = ExtentSet.whole(1000n);
    t.same(stretches(whole), [{ begin: 0n, end: 1000n }]);
    t.same(whole.next(999n), { begin: 999n, end: 1000n });
    t.equal(whole.next(1000n), null);
    t.equal(whole.bytes, 1000n);
    t.ok(whole.isWhole);
    t.same(stretches(ExtentSet.of(8192n, EXTENT, Buffer.alloc(1))), []);
    t.end();
});
//# sourceMappingURL=extent_set.test.js.map