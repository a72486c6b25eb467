/** Runs one test against one build and tells what became of it. */
import { spawn } from 'node:child_process';
import { ended } from '../scenario/command.js';
/** A program that gets stuck is told from a slow one by what the control took. */
export function secondsMax(controlSeconds) {
    return Math.max(60, 4 * controlSeconds);
}
/** One test case of the native tests, by its whole name. */
export async function runNative(program, testCase, limit) {
    // A comma would separate two filters; `?` stands for any character.
    const run = await runProgram(program, [`--test-case=${testCase.replaceAll(',', '?')}`], {}, limit);
    if (run.ended !== 'passed' && run.ended !== 'failed')
        return run;
    const count = /test cases:\s+1 \|\s+(\d+) passed \|\s+(\d+) failed/.exec(run.output);
    if (count === null)
        throw new Error(`no test case of this name: ${testCase}\n${run.output.slice(-2000)}`);
    if (run.output.includes('test case CRASHED'))
        return { ...run, ended: 'crash' };
    return { ...run, failures: count[2] === '1' ? [testCase] : [] };
}
/** One test file, which with all that it starts is of this build. */
export async function runScenario({ addon, dist }, file, limit) {
    const args = [`${dist}/test/${file}.test.js`];
    const run = await runProgram(process.execPath, args, { AFTERIMAGE_ADDON: addon }, limit);
    const assertions = (result) => [...run.output.matchAll(result)].map((match) => match[1] ?? '');
    const failures = assertions(/^ +not ok \d+ - (.*?)(?: # time=.*)?$/gm);
    const passes = assertions(/^ +ok \d+ - (.*?)(?: # time=.*)?$/gm);
    const late = failures.some((name) => /^timeout!/.test(name));
    return { ...run, ended: late ? 'time-out' : run.ended, failures, passes };
}
async function runProgram(program, args, env, limit) {
    const begin = Date.now();
    // A test that leaves itself out would pass with any mutant.
    const child = spawn(program, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...env, AFTERIMAGE_TEST_REQUIRE_ALL: '1' },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => (output += text));
    const status = await ended(child, limit);
    const how = status === 0
        ? 'passed'
        : typeof status === 'number'
            ? 'failed'
            : status.startsWith('a time-out')
                ? 'time-out'
                : 'crash';
    return { ended: how, failures: [], passes: [], seconds: (Date.now() - begin) / 1000, output };
}
//# sourceMappingURL=judge.js.map