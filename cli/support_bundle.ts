/** `afterimage support-bundle`: one archive for whoever helps. */
import path from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';
import { loadConfig } from '../service/config.js';
import { jsonLine } from './json.js';
import { CONFIG_DIR, examples, jsonOption } from './option.js';
import { formatCount } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';

const STATE_DIR = '/var/lib/afterimage/agent';
const VERBS = {
  'status.json': ['status', '--json'],
  'devices.json': ['agent', 'devices', '--json'],
  'layouts.json': ['agent', 'layouts', '--json'],
  'exports.json': ['export', 'list', '--json'],
  'checkpoints.json': ['checkpoint', 'list', '--json'],
  'audit.json': ['audit', '--last', '500', '--json'],
} as const;
const lenient = z.object({ metrics: z.string().optional(), state_dir: z.string().optional() });

interface BundleOptions {
  to?: string;
  agentConfig?: string;
  receiverConfig?: string;
  json?: true;
}

export function addSupportBundle(program: Command, surroundings: Surroundings): void {
  const bundle = program
    .command('support-bundle')
    .description(
      'collect configuration, state, logs, metrics and facts of this machine in one archive: no keys, no data; nothing is changed',
    )
    .option('--to <file>', 'the archive; otherwise afterimage-support-HOST-TIME.tar.gz here')
    .option('--agent-config <file>', `otherwise ${CONFIG_DIR}/agent.toml`)
    .option('--receiver-config <file>', `otherwise ${CONFIG_DIR}/receiver.toml`)
    .addOption(jsonOption())
    .action((options: BundleOptions) => run(options, surroundings));
  examples(bundle, [
    [
      'afterimage support-bundle',
      'as root, on the machine that has the trouble; look through it before you send it',
    ],
    ['afterimage support-bundle --to /root/shop.tar.gz', 'to a file of that name'],
  ]);
}

async function run(options: BundleOptions, surroundings: Surroundings): Promise<void> {
  const { cwd, daemons, stdout, stderr, stop, now } = surroundings;
  const { bundleName, makeBundle } = await import('./bundle.js');
  const target = path.resolve(cwd, options.to ?? bundleName(now()));
  if (!target.endsWith('.tar.gz'))
    throw new AfterimageError('USAGE', `${target}: expected a name that ends with .tar.gz`);
  const configs = {
    agent: path.resolve(cwd, options.agentConfig ?? `${CONFIG_DIR}/agent.toml`),
    receiver: path.resolve(cwd, options.receiverConfig ?? `${CONFIG_DIR}/receiver.toml`),
  };
  const metrics: Record<string, string> = {};
  let stateDir = STATE_DIR;
  for (const [daemon, file] of Object.entries(configs)) {
    // What is wrong with it is in the bundle.
    const said = await loadConfig(file, lenient).catch(() => ({ metrics: undefined, state_dir: undefined }));
    if (said.metrics !== undefined) metrics[daemon] = said.metrics;
    if (daemon === 'agent') stateDir = said.state_dir ?? STATE_DIR;
  }
  const files = await makeBundle({
    ...{ target, configs, metrics, verbs: VERBS, command: daemons.command() },
    identity: path.join(stateDir, 'identity.json'),
    told: (file) => {
      if (stop.drain.aborted) throw new AfterimageError('INTERRUPTED', 'no archive was made');
      if (stderr.isTerminal) stderr.write(`${file}\n`);
    },
  });
  stdout.write(
    options.json === true
      ? jsonLine({ archive: target, files })
      : `${printable(target)} has ${formatCount(files.length, 'file')}. Look through it before you send it\n`,
  );
}
