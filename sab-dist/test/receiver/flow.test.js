import t from 'tap';
import { FlowGate, INTAKE_BYTES_MAX, INTAKE_MESSAGES_MAX } from '../../receiver/flow.js';
function gate() {
    const told = [];
    return { told, gate: new FlowGate({ pause: () => told.push('pause'), resume: () => told.push('resume') }) };
}
t.test('too many bytes on their way to the disk hold the stream back until half of them are through', (t) => {
    const { told, gate: it } = gate();
    const piece = INTAKE_BYTES_MAX / 4;
    for (let count = 0; count < 5; count += 1)
        it.enter(piece);
    t.same(told, ['pause']);
    it.leave(piece);
    it.leave(piece);
    t.same(told, ['pause']);
    it.leave(piece);
    t.same(told, ['pause', 'resume']);
    t.end();
});
t.test('so do too many small messages', (t) => {
    const { told, gate: it } = gate();
    for (let count = 0; count < INTAKE_MESSAGES_MAX; count += 1)
        it.enter(1);
    t.same(told, ['pause']);
    for (let count = 0; count < INTAKE_MESSAGES_MAX / 2; count += 1)
        it.leave(1);
    t.same(told, ['pause', 'resume']);
    t.end();
});
t.test('a peer that does not read is not read either, until the session is over', (t) => {
    const { told, gate: it } = gate();
    it.block(true);
    it.enter(1);
    it.leave(1);
    t.same(told, ['pause']);
    it.open();
    t.same(told, ['pause', 'resume']);
    it.enter(INTAKE_BYTES_MAX * 2);
    t.same(told, ['pause', 'resume']);
    t.end();
});
//# sourceMappingURL=flow.test.js.map