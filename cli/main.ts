#!/usr/bin/env node
/** The `afterimage` command, put together with the process that it runs in. Nothing is decided here. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AfterimageError, EXIT } from '../proto/errors.js';
import { stopSignals } from '../service/signals.js';
import type { Output, Surroundings } from './surroundings.js';

const COLUMNS_DEFAULT = 80;
/** What was told to end at once, and has, has so long to let go of what it had. */
const GIVEN_UP_MS = 1_000;
/** A daemon has so long to come to that: a disk that does not answer is not waited for. What is acknowledged is safe whenever it ends. */
const ENDING_MS_MAX = 20_000;

const signals = stopSignals();
// Before anything is waited for: an abort that nobody listened to is not told again.
const drain = new AbortController();
signals.drain.addEventListener('abort', () => drain.abort(signals.drain.reason));

const [noun, verb] = process.argv.slice(2);
const endNow = async (status: number): Promise<never> =>
  (await import('../native/index.js')).endProcess(status);
// Verbs have an end of their own, and something to say of it.
if (verb === 'run' && (noun === 'agent' || noun === 'receiver'))
  signals.end.addEventListener('abort', () => {
    const giveUp = (): void => {
      process.stderr.write('ended although something does not answer\n');
      void endNow(Number(process.exitCode ?? EXIT.ok)); // else who supervises it would start another one
    };
    setTimeout(giveUp, ENDING_MS_MAX).unref();
  });

// Production waits for the successor of an agent that died: before the command itself is loaded, and its line is read.
const isSuccessor = noun === 'agent' && verb === 'run' && isHandedDescriptors(process.env);
const succession = isSuccessor
  ? (await import('../agent/succession.js')).Succession.begin(signals.drain)
  : null;
const served = (await succession?.catch(() => null)) ?? null; // whoever runs the agent is told why
// Half of an upgrade, say: production is served all the same.
const serveOnly = async (thrown: unknown): Promise<never> => {
  await served?.serveOnly(signals, `the command cannot be loaded (${String(thrown)})`);
  throw thrown;
};
const [{ run }, { daemonModules }] = await Promise.all([
  import('./command.js'),
  import('./daemon_modules.js'),
]).catch(serveOnly);

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `afterimage status --watch | head`: nobody reads any more, which is no failure.
  if (error.code !== 'EPIPE') process.exitCode = EXIT.failure;
  drain.abort();
});
// Without a reader of its progress a recovery goes on.
process.stderr.on('error', () => undefined);

function output(stream: NodeJS.WriteStream): Output {
  return {
    write: (text) => void stream.write(text),
    isTerminal: Boolean(stream.isTTY),
    get columns() {
      return stream.columns || COLUMNS_DEFAULT;
    },
  };
}

async function ask(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${question} [y/N] `, { signal: drain.signal });
    return /^y(es)?$/i.test(answer.trim());
  } catch (cause) {
    // Ctrl-C and Ctrl-D, which readline takes before they are signals; or a signal.
    throw new AfterimageError('INTERRUPTED', 'the question was not answered', { cause });
  } finally {
    terminal.close();
  }
}

/** By a service manager, to this process. */
function isHandedDescriptors({ LISTEN_PID, LISTEN_FDS }: NodeJS.ProcessEnv): boolean {
  return LISTEN_PID === String(process.pid) && Number(LISTEN_FDS) > 0;
}

function packageVersion(): string {
  // From dist/cli/.
  const file = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

const version = packageVersion();
const surroundings: Surroundings = {
  env: process.env,
  cwd: process.cwd(),
  stdout: output(process.stdout),
  stderr: output(process.stderr),
  readInput: async () => Buffer.concat(await process.stdin.toArray()).toString('utf8'),
  ask: process.stdin.isTTY && process.stderr.isTTY ? ask : null,
  stop: { drain: drain.signal, end: signals.end, onReload: signals.onReload },
  sleep: (ms, signal) => delay(ms, undefined, { signal }).catch(() => undefined),
  now: Date.now,
  daemons: daemonModules(succession, version),
  version,
};

const status = await run(process.argv.slice(2), surroundings);
await served?.serveOnly(surroundings.stop, 'the command was not carried out');
process.exitCode ??= status;
signals.dispose();
if (signals.end.aborted) {
  // What was given up, since no disk answers, would keep Node from ending.
  setTimeout(() => void endNow(Number(process.exitCode)), GIVEN_UP_MS).unref();
}
