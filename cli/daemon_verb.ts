/** The verbs that both daemons have: run and configcheck. */
import path from 'node:path';
import { Option, type Command } from 'commander';
import { AfterimageError } from '../proto/errors.js';
import { logLevel, type LogLevel } from '../service/config.js';
import type { ConfigSummary, DaemonOverrides } from './daemons.js';
import { jsonLine } from './json.js';
import { configFile, jsonOption, type DaemonName } from './option.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';

interface RunOptions {
  config?: string;
  control?: string;
  logLevel?: LogLevel;
}

export function addRun(
  noun: Command,
  daemon: DaemonName,
  description: string,
  surroundings: Surroundings,
  run: (config: string, overrides: DaemonOverrides) => Promise<void>,
): Command {
  return noun
    .command('run')
    .description(`${description}. The first signal drains, the second ends. JSON log on stderr`)
    .option(
      '--config <file>',
      `configuration (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/${daemon}.toml)`,
    )
    .option('--control <path>', 'control socket (environment: AFTERIMAGE_CONTROL)')
    .addOption(
      new Option('--log-level <level>', 'what the log tells (environment: AFTERIMAGE_LOG_LEVEL)').choices(
        logLevel.options,
      ),
    )
    .addOption(new Option('--json', 'errors as JSON; the log is JSON in any case'))
    .action((options: RunOptions) =>
      run(configFile(daemon, options.config, surroundings), overrides(options, surroundings)),
    );
}

export function addConfigcheck(
  noun: Command,
  daemon: DaemonName,
  surroundings: Surroundings,
  check: (config: string) => Promise<ConfigSummary>,
): Command {
  return noun
    .command('configcheck')
    .description('read the configuration and say what is wrong with it, without running anything')
    .option(
      '--config <file>',
      `configuration (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/${daemon}.toml)`,
    )
    .addOption(jsonOption())
    .action(async (options: { config?: string; json?: true }) => {
      const file = configFile(daemon, options.config, surroundings);
      const { control, text } = await check(file);
      surroundings.stdout.write(
        options.json === true
          ? jsonLine({ config: file, valid: true, control })
          : printable(`${file} is valid: ${text}`) + '\n',
      );
    });
}

/** Flag > environment; what neither names stays as the file has it. */
function overrides(options: RunOptions, { env, cwd }: Surroundings): DaemonOverrides {
  const control = options.control ?? env['AFTERIMAGE_CONTROL'] ?? '';
  const level = options.logLevel ?? env['AFTERIMAGE_LOG_LEVEL'] ?? '';
  const parsed = logLevel.safeParse(level);
  if (level !== '' && !parsed.success) {
    throw new AfterimageError(
      'USAGE',
      `AFTERIMAGE_LOG_LEVEL is ${level}; expected one of ${logLevel.options.join(', ')}`,
    );
  }
  return {
    control: control === '' ? null : path.resolve(cwd, control),
    logLevel: parsed.success ? parsed.data : null,
  };
}
