/** Who reads, who opens, who moves: what waits for whom. */
import t from 'tap';
import { BaseAccess } from '../../receiver/base_access.js';
t.test('the hold that reaches back furthest counts, until it is let go of', (t) => {
    const access = new BaseAccess();
    t.equal(access.oldest('m'), null);
    const late = access.hold('m', 20n, 'late');
    const early = access.hold('m', 10n, 'early');
    access.hold('other', 1n, 'another');
    t.same(access.oldest('m'), { lsn: 10n, who: 'early' });
    early();
    early();
    t.same(access.oldest('m'), { lsn: 20n, who: 'late' });
    late();
    t.equal(access.oldest('m'), null);
    t.end();
});
t.test('files wait for what is being opened, and not for what is opened later', async (t) => {
    const access = new BaseAccess();
    const told = [];
    let opened = () => undefined;
    const opening = access.whileOpening(['m'], () => new Promise((resolve) => (opened = resolve)));
    const waiting = access.opened('m').then(() => told.push('may go'));
    let later = () => undefined;
    const next = access.whileOpening(['m'], () => new Promise((resolve) => (later = resolve)));
    await access.opened('other');
    t.same(told, []);
    opened();
    await Promise.all([opening, waiting]);
    t.same(told, ['may go']);
    later();
    await next;
    const failing = access.whileOpening(['m'], () => Promise.reject(new Error('it is not there')));
    await t.rejects(failing, { message: 'it is not there' });
    await access.opened('m');
});
t.test('one moves the bases of a member; whoever wants it to stop waits until it has', async (t) => {
    const access = new BaseAccess();
    const roll = access.beginRoll('m');
    t.equal(roll?.isStopped, false);
    t.throws(() => access.beginRoll('m'), 'nobody else moves them');
    await access.stopRoll('other');
    let isOpen = false;
    const opened = access.withoutRoll('m', () => {
        isOpen = true;
        t.equal(access.beginRoll('m'), null, 'none begins while the journal is opened');
        return Promise.resolve();
    });
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(roll?.isStopped, true);
    t.notOk(isOpen);
    roll?.end();
    await opened;
    t.ok(isOpen);
    access.beginRoll('m')?.end();
});
//# sourceMappingURL=base_access.test.js.map