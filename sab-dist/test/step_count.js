/** What a step of the test run counted, read from its output. A test that was left out has not passed. */
/**
 * doctest: `[doctest] test cases:  31 |  31 passed | 0 failed | 0 skipped`, where "skipped" are those that nobody asked
 * for; a case that left itself out says so (test/native/prerequisite.h) and is among the passed ones.
 */
export const doctest = (output) => {
    const match = /test cases:\s+\d+ \|\s+(\d+) passed \|\s+(\d+) failed/.exec(output);
    if (match === null)
        return null;
    const skipped = output.match(/MESSAGE: not run: needs/g)?.length ?? 0;
    return { passed: Number(match[1]) - skipped, failed: Number(match[2]), skipped };
};
/**
 * tap's TAP reporter closes each file with `ok` or `not ok` at the outermost level, its tests one level in. A file that
 * failed without a failing test crashed, or was stopped; one that has no test at all was meant to have some.
 */
export const tap = (output) => {
    const count = { passed: 0, failed: 0, skipped: 0 };
    let failedInFile = 0;
    for (const [, indent, not, rest = ''] of output.matchAll(/^( {4})?(not )?ok \d+(.*)$/gm)) {
        const isLeftOut = /# (SKIP|TODO)\b/i.test(rest);
        if (indent !== undefined) {
            if (isLeftOut)
                count.skipped += 1;
            else if (not === undefined)
                count.passed += 1;
            else
                failedInFile += 1;
        }
        else {
            const isFailed = not !== undefined || isLeftOut;
            count.failed += Math.max(failedInFile, isFailed ? 1 : 0);
            failedInFile = 0;
        }
    }
    count.failed += failedInFile; // of a file that never came to its end
    return count.passed + count.failed + count.skipped === 0 ? null : count;
};
/** A step that is one check: its exit status decides. */
export const single = () => ({ passed: 1, failed: 0, skipped: 0 });
/** The demo says in its last line how it went, and promises that it takes five minutes at most. */
export const DEMO_SECONDS_MAX = 300;
export const demo = (output) => {
    const failed = { passed: 0, failed: 1, skipped: 0 };
    let figures;
    try {
        figures = JSON.parse(output.trimEnd().split('\n').at(-1) ?? '');
    }
    catch {
        return failed;
    }
    if (typeof figures !== 'object' || figures === null)
        return failed;
    if (!('demo' in figures) || figures.demo !== 'ok')
        return failed;
    if (!('seconds' in figures) || typeof figures.seconds !== 'number')
        return failed;
    return figures.seconds <= DEMO_SECONDS_MAX ? { passed: 1, failed: 0, skipped: 0 } : failed;
};
/** The line that everything ends with. */
export function total(counts) {
    const sum = (key) => counts.reduce((all, count) => all + count[key], 0);
    const skipped = sum('skipped');
    return `${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
//# sourceMappingURL=step_count.js.map