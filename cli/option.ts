/** Options that many verbs share, and the rule by which a value is found: flag > environment > file > default. */
import path from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';
import type { OperatorRole } from '../proto/access.js';
import {
  absolutePath,
  isName,
  loadConfig,
  parseAddress,
  parseLoopback,
  socketPath,
} from '../service/config.js';
import type { Surroundings } from './surroundings.js';

export const CONFIG_DIR = '/etc/afterimage';
const RUN_DIR = '/run/afterimage';

export type DaemonName = 'agent' | 'receiver';

/** What every verb that asks a daemon understands. */
export interface ClientOptions {
  /** "HOST:PORT" of a receiver elsewhere. */
  receiver?: string;
  control?: string;
  config?: string;
  json?: true;
}

/** A verb that asks a daemon, under `parent`. */
export function clientVerb(parent: Command, name: string, description: string): Command {
  return addClientOptions(parent.command(name).description(description));
}

/** One that asks the receiver, here or elsewhere, and needs that role of an operator there. */
export function receiverVerb(
  parent: Command,
  name: string,
  description: string,
  role: OperatorRole,
): Command {
  return clientVerb(parent, name, `${description} (role: ${role})`).addOption(receiverOption());
}

export function receiverOption(): Option {
  return new Option(
    '--receiver <address>',
    'HOST:PORT of a receiver elsewhere, where `afterimage login` has been (environment: AFTERIMAGE_RECEIVER)',
  ).argParser(networkAddressArgument);
}

/** "HOST:PORT", as it is. */
export function networkAddressArgument(text: string): string {
  if (parseAddress(text, 1) === null)
    throw new InvalidArgumentError('Expected an address such as backup.example.org:7443.');
  return text;
}

/** The receiver elsewhere that flag or environment name; null: the one of this machine. Errors: USAGE. */
export function remoteReceiver(options: ClientOptions, { env }: Pick<Surroundings, 'env'>): string | null {
  if (options.receiver !== undefined) return options.receiver;
  if (options.control !== undefined || options.config !== undefined) return null;
  const named = env['AFTERIMAGE_RECEIVER'] ?? '';
  if (named !== '' && parseAddress(named, 1) === null)
    throw new AfterimageError(
      'USAGE',
      `AFTERIMAGE_RECEIVER is ${named}; expected an address such as backup.example.org:7443`,
    );
  return named === '' ? null : named;
}

export function addClientOptions(verb: Command): Command {
  return verb
    .option('--control <path>', "the daemon's control socket (environment: AFTERIMAGE_CONTROL)")
    .option(
      '--config <file>',
      "the daemon's configuration, which names that socket (environment: AFTERIMAGE_CONFIG)",
    )
    .addOption(jsonOption());
}

export function jsonOption(): Option {
  return new Option('--json', 'write the result as JSON (docs/CLI.md)');
}

/** The examples at the end of --help: command lines and what they are for. */
export function examples(
  command: Command,
  lines: readonly (readonly [line: string, purpose: string])[],
): Command {
  const text = lines.map(([line, purpose]) => `  # ${purpose}\n  ${line}`).join('\n');
  return command.addHelpText('after', `\nExamples:\n${text}\n`);
}

/**
 * The control socket of a daemon. Errors: CONFIG_MISSING and CONFIG_INVALID for a configuration that was named; the
 * one in /etc is only looked at, since it need not be this user's to read.
 */
export async function controlSocket(
  daemon: DaemonName,
  options: ClientOptions,
  { env, cwd }: Surroundings,
): Promise<string> {
  const named = await namedControl(options, { env, cwd });
  if (named !== null) return named;
  const runDir = env['AFTERIMAGE_RUN_DIR'] ?? '';
  if (runDir !== '') return path.resolve(cwd, runDir, `${daemon}.sock`);
  const settings = await readSettings(path.join(CONFIG_DIR, `${daemon}.toml`)).catch(
    (thrown: unknown): Settings => {
      if (thrown instanceof AfterimageError) return {};
      throw thrown;
    },
  );
  return settings.control ?? path.join(settings.run_dir ?? RUN_DIR, `${daemon}.sock`);
}

/** The one control socket that flags or environment name, whichever daemon's it is; null without. */
export async function namedControl(
  options: ClientOptions,
  { env, cwd }: Pick<Surroundings, 'env' | 'cwd'>,
): Promise<string | null> {
  if (options.control !== undefined) return path.resolve(cwd, options.control);
  if (options.config !== undefined) return controlIn(path.resolve(cwd, options.config));
  const control = env['AFTERIMAGE_CONTROL'] ?? '';
  if (control !== '') return path.resolve(cwd, control);
  const config = env['AFTERIMAGE_CONFIG'] ?? '';
  return config === '' ? null : controlIn(path.resolve(cwd, config));
}

/** The configuration file of a daemon verb: flag, environment or the one in /etc. */
export function configFile(daemon: DaemonName, flag: string | undefined, { env, cwd }: Surroundings): string {
  const named = flag ?? env['AFTERIMAGE_CONFIG'] ?? '';
  return named === '' ? path.join(CONFIG_DIR, `${daemon}.toml`) : path.resolve(cwd, named);
}

const settingsOfBoth = z.object({
  control: socketPath.optional(),
  run_dir: absolutePath.optional(),
  group: z.array(z.object({ volume: z.unknown().optional() })).optional(),
});

type Settings = z.output<typeof settingsOfBoth>;

function readSettings(file: string): Promise<Settings> {
  return loadConfig(file, settingsOfBoth);
}

/** Both may have groups: those of an agent have volumes. */
async function controlIn(file: string): Promise<string> {
  const settings = await readSettings(file);
  const isAgent = settings.group?.some(({ volume }) => volume !== undefined) ?? false;
  const daemon: DaemonName = isAgent ? 'agent' : 'receiver';
  return settings.control ?? path.join(settings.run_dir ?? RUN_DIR, `${daemon}.sock`);
}

/** An argument that names a group or a volume. */
export function nameArgument(text: string): string {
  if (!isName(text)) {
    throw new InvalidArgumentError(
      'A name has 1 to 64 letters, digits, ".", "_" or "-" and begins with none of ".-".',
    );
  }
  return text;
}

/** `GROUP` or `GROUP/VOLUME`; volume "" is all of them. */
export function subjectArgument(text: string): { group: string; volume: string } {
  const [group = '', volume, ...rest] = text.split('/');
  if (rest.length > 0) throw new InvalidArgumentError('Expected GROUP or GROUP/VOLUME.');
  return { group: nameArgument(group), volume: volume === undefined ? '' : nameArgument(volume) };
}

/** Loopback "HOST:PORT", as it is. Errors: ADDRESS_NOT_LOOPBACK. */
export function addressArgument(text: string): string {
  const address = parseLoopback(text, 0);
  if (address === null) throw new InvalidArgumentError('Expected an address such as 127.0.0.1:10809.');
  if (address === 'foreign')
    throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${text} is not a loopback address`);
  return text;
}
