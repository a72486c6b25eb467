/** The verbs that both daemons have: run and configcheck. */
import path from 'node:path';
import { Option } from 'commander';
import { AfterimageError } from '../proto/errors.js';
import { logLevel } from '../service/config.js';
import { jsonLine } from './json.js';
import { configFile, jsonOption } from './option.js';
import { printable } from './table.js';
export function addRun(noun, daemon, description, surroundings, run) {
    return noun
        .command('run')
        .description(`${description}. The first signal drains, the second ends. JSON log on stderr`)
        .option('--config <file>', `configuration (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/${daemon}.toml)`)
        .option('--control <path>', 'control socket (environment: AFTERIMAGE_CONTROL)')
        .addOption(new Option('--log-level <level>', 'what the log tells (environment: AFTERIMAGE_LOG_LEVEL)').choices(logLevel.options))
        .addOption(new Option('--json', 'errors as JSON; the log is JSON in any case'))
        .action((options) => run(configFile(daemon, options.config, surroundings), overrides(options, surroundings)));
}
export function addConfigcheck(noun, daemon, surroundings, check) {
    return noun
        .command('configcheck')
        .description('read the configuration and say what is wrong with it, without running anything')
        .option('--config <file>', `configuration (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/${daemon}.toml)`)
        .addOption(jsonOption())
        .action(async (options) => {
        const file = configFile(daemon, options.config, surroundings);
        const { control, text } = await check(file);
        surroundings.stdout.write(options.json === true
            ? jsonLine({ config: file, valid: true, control })
            : printable(`${file} is valid: ${text}`) + '\n');
    });
}
/** Flag > environment; what neither names stays as the file has it. */
function overrides(options, { env, cwd }) {
    const control = options.control ?? env['AFTERIMAGE_CONTROL'] ?? '';
    const level = options.logLevel ?? env['AFTERIMAGE_LOG_LEVEL'] ?? '';
    const parsed = logLevel.safeParse(level);
    if (level !== '' && !parsed.success) {
        throw new AfterimageError('USAGE', `AFTERIMAGE_LOG_LEVEL is ${level}; expected one of ${logLevel.options.join(', ')}`);
    }
    return {
        control: control === '' ? null : path.resolve(cwd, control),
        logLevel: parsed.success ? parsed.data : null,
    };
}
//# sourceMappingURL=daemon_verb.js.map