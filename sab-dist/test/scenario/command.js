/** Running other people's programs. */
import { spawn } from 'node:child_process';
const OUTPUT_BYTES_MAX = 64 << 20;
/** Runs a program to its end. Throws, with its output, when its status is not accepted. */
export async function command(program, args, options = {}) {
    const child = spawn(program, args, {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: options.env ?? process.env,
        cwd: options.cwd,
        signal: options.signal,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
        if (stdout.length < OUTPUT_BYTES_MAX)
            stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
        if (stderr.length < OUTPUT_BYTES_MAX)
            stderr += text;
    });
    child.stdin.on('error', () => undefined); // a program may end without reading its input
    child.stdin.end(options.input ?? '');
    const status = await ended(child, options.secondsMax ?? 120);
    const shown = `${program} ${args.join(' ')}`;
    if (typeof status !== 'number' || (status !== 0 && !(options.accept ?? []).includes(status))) {
        throw new Error(`${shown}\nended with ${status}\n${stdout.slice(-4000)}${stderr.slice(-4000)}`);
    }
    return { status, stdout, stderr };
}
/** Waits for a child's end: its status, or why there is none. It is killed after secondsMax. */
export async function ended(child, secondsMax) {
    if (child.exitCode !== null)
        return child.exitCode;
    if (child.signalCode !== null)
        return child.signalCode;
    let late = false;
    const timer = setTimeout(() => {
        late = true;
        child.kill('SIGKILL');
    }, secondsMax * 1000);
    try {
        return await new Promise((resolve) => {
            child.once('error', (error) => resolve(error.message));
            child.once('close', (code, signal) => resolve(late ? `a time-out after ${secondsMax} s` : (code ?? signal ?? 'nothing')));
        });
    }
    finally {
        clearTimeout(timer);
    }
}
//# sourceMappingURL=command.js.map