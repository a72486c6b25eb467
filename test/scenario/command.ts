/** Running other people's programs. */
import { spawn, type ChildProcess } from 'node:child_process';

export interface CommandOptions {
  /** Seconds until it is killed. */
  secondsMax?: number;
  input?: string | Buffer;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  signal?: AbortSignal;
  /** Exit statuses that are no error. */
  accept?: number[];
}
export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

const OUTPUT_BYTES_MAX = 64 << 20;

/** Runs a program to its end. Throws, with its output, when its status is not accepted. */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const env = { ...(options.env ?? process.env) };
  // Of scripts/with-asan: what is to be begun with a sanitizer is Node alone.
  if (program !== process.execPath) delete env['LD_PRELOAD'];
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
    cwd: options.cwd,
    signal: options.signal,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (stdout.length < OUTPUT_BYTES_MAX) stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < OUTPUT_BYTES_MAX) stderr += text;
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
export async function ended(child: ChildProcess, secondsMax: number): Promise<number | string> {
  if (child.exitCode !== null) return child.exitCode;
  if (child.signalCode !== null) return child.signalCode;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, secondsMax * 1000);
  try {
    return await new Promise<number | string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) =>
        resolve(late ? `a time-out after ${secondsMax} s` : (code ?? signal ?? 'nothing')),
      );
    });
  } finally {
    clearTimeout(timer);
  }
}
