/** The whole command as something to be looked at, which can do nothing: for man pages, completion, and tests of the documentation. */
import type { Command } from 'commander';
import { buildCommand } from './command.js';
import type { Output, Surroundings } from './surroundings.js';

const COLUMNS = 80;

/** A verb with the words that name it, "afterimage receiver init". */
export interface Verb {
  path: string;
  command: Command;
}

export function describedCommand(version: string): Command {
  const silent: Output = { write: () => undefined, isTerminal: false, columns: COLUMNS };
  const never = new AbortController().signal;
  const inert = new Proxy({} as Surroundings['daemons'], {
    get: () => () => Promise.reject(new Error('nothing is run here')),
  });
  return buildCommand({
    ...{ env: {}, cwd: '/', stdout: silent, stderr: silent, ask: null, version, daemons: inert },
    readInput: () => Promise.resolve(''),
    stop: { drain: never, end: never },
    sleep: () => Promise.resolve(),
    now: () => 0,
  });
}

/** Those that do something, in the order in which --help shows them. */
export function verbsOf(command: Command, path = command.name()): Verb[] {
  if (command.commands.length === 0) return [{ path, command }];
  return command.commands.flatMap((one) => verbsOf(one, `${path} ${one.name()}`));
}
