import t from 'tap';
import { demo, DEMO_SECONDS_MAX, doctest, tap, total } from '../step_count.js';
t.test('tap: only a test that ran has passed', (t) => {
    const output = [
        '1..2',
        '# Subtest: a.test.js',
        '    # Subtest: good',
        '        ok 1 - an assertion is no test',
        '    ok 1 - good # time=1ms',
        '    ok 2 - device # SKIP needs root',
        '    ok 3 - some day # TODO',
        'ok 1 - a.test.js # time=1ms',
        'ok 2 - b.test.js # SKIP no tests found',
    ].join('\n');
    t.same(tap(output), { passed: 1, failed: 1, skipped: 2 }, 'a file without tests fails');
    t.end();
});
t.test('tap: a crashed file counts beside the failing tests of others', (t) => {
    const output = [
        '    not ok 1 - bad',
        '    not ok 2 - bad too',
        'not ok 1 - a.test.js',
        '    ok 1 - good',
        'not ok 2 - crashed.test.js',
        'not ok 3 - crashed_at_once.test.js',
        '    not ok 1 - without an end',
    ].join('\n');
    t.same(tap(output), { passed: 1, failed: 5, skipped: 0 });
    t.equal(tap('command not found'), null);
    t.end();
});
t.test('doctest: a case that left itself out has not passed', (t) => {
    const output = [
        'a_test.cc:67: MESSAGE: not run: needs root and loop devices',
        '[doctest] test cases:  31 |  30 passed | 1 failed | 0 skipped',
    ].join('\n');
    t.same(doctest(output), { passed: 29, failed: 1, skipped: 1 });
    t.equal(doctest('Segmentation fault'), null);
    t.end();
});
t.test('the demo must say that it went well, in time', (t) => {
    const failed = { passed: 0, failed: 1, skipped: 0 };
    const says = (figures) => `steps\n${JSON.stringify(figures)}\n`;
    t.same(demo(says({ demo: 'ok', seconds: DEMO_SECONDS_MAX })), { passed: 1, failed: 0, skipped: 0 });
    t.same(demo(says({ demo: 'ok', seconds: DEMO_SECONDS_MAX + 1 })), failed);
    t.same(demo(says({ demo: 'failed', seconds: 1 })), failed);
    t.same(demo(says({ demo: 'ok' })), failed);
    t.same(demo('steps\n'), failed);
    t.end();
});
t.test('the last line names what was left out only where something was', (t) => {
    const one = { passed: 1, failed: 0, skipped: 0 };
    t.equal(total([one, one]), '2 passed, 0 failed');
    t.equal(total([one, { passed: 0, failed: 1, skipped: 2 }]), '1 passed, 1 failed, 2 skipped');
    t.end();
});
//# sourceMappingURL=step_count.test.js.map