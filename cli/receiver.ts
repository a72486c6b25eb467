/** `afterimage receiver init|run|token|host|operator|authority|configcheck|fsck|scrub`: the daemon at the recovery site. */
import path from 'node:path';
import type { Command } from 'commander';
import { AfterimageError } from '../proto/errors.js';
import { confirm } from './confirmation.js';
import { addConfigcheck, addRun } from './daemon_verb.js';
import { addFsck } from './fsck.js';
import { addIdentities } from './identity.js';
import { jsonLine } from './json.js';
import { configFile, examples, jsonOption } from './option.js';
import { formatCount } from './quantity.js';
import { addScrub } from './scrub.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';
import { addToken } from './token.js';

export function addReceiver(program: Command, surroundings: Surroundings): void {
  const receiver = program
    .command('receiver')
    .description('the daemon at the recovery site')
    .helpCommand(false);
  const { daemons, stop, version } = surroundings;
  addInit(receiver, surroundings);
  const run = addRun(
    receiver,
    'receiver',
    'keep the journal of every agent that connects, until a signal',
    surroundings,
    (config, overrides) => daemons.runReceiver(config, overrides, stop, version),
  );
  examples(run, [
    ['afterimage receiver run', 'with /etc/afterimage/receiver.toml'],
    ['afterimage receiver run --config ./receiver.toml', 'with another'],
  ]);
  const check = addConfigcheck(receiver, 'receiver', surroundings, (config) => daemons.checkReceiver(config));
  examples(check, [['afterimage receiver configcheck --config ./receiver.toml', 'before a restart']]);
  addToken(receiver, surroundings);
  addIdentities(receiver, surroundings);
  addFsck(receiver, surroundings);
  addScrub(receiver, surroundings);
}

function addInit(receiver: Command, surroundings: Surroundings): void {
  const init = receiver
    .command('init')
    .description(
      'make an empty store, and the authority that will sign the certificates of those who may connect',
    )
    .option('--store <directory>', 'directory, new or empty; otherwise the one that the configuration names')
    .option('--config <file>', 'configuration that names the store (environment: AFTERIMAGE_CONFIG)')
    .option(
      '--new-authority',
      'of a store that is there: another authority, when its own was lost or stolen. Every host and operator has to join again; history stays',
    )
    .option('--yes', 'with --new-authority: without asking')
    .addOption(jsonOption())
    .action(async (options: InitOptions) => {
      const { daemons, cwd, stdout, stop } = surroundings;
      const directory =
        options.store === undefined
          ? await daemons.storeOf(configFile('receiver', options.config, surroundings))
          : path.resolve(cwd, options.store);
      // Once begun it is done in an instant, and half a store would be in the way of the next attempt.
      if (stop.drain.aborted) throw new AfterimageError('INTERRUPTED', `no store was made in ${directory}`);
      if (options.newAuthority === true) return replaceAuthority(directory, options, surroundings);
      const { fingerprint } = await daemons.initReceiver(directory);
      stdout.write(
        options.json === true
          ? jsonLine({ store: directory, fingerprint })
          : `${printable(directory)} is an empty store. Its authority:\nSHA-256 ${fingerprint}\n`,
      );
    });
  examples(init, [
    ['afterimage receiver init --store /var/lib/afterimage/store', 'before the first run'],
    ['afterimage receiver init --new-authority', 'when authority.pem is gone, or somebody else has it'],
  ]);
}

interface InitOptions {
  store?: string;
  config?: string;
  newAuthority?: true;
  yes?: true;
  json?: true;
}

async function replaceAuthority(
  directory: string,
  options: InitOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, stdout } = surroundings;
  const { fingerprint } = await daemons.replaceAuthority(directory, async ({ hosts, operators }) => {
    const consequence = `${formatCount(hosts, 'host')} and ${formatCount(operators, 'operator')} are let in no more until they join again`;
    const question = `Make another authority for ${directory}?`;
    await confirm({ question, consequence, otherwise: 'the authority is as it was' }, options, surroundings);
  });
  stdout.write(
    options.json === true
      ? jsonLine({ store: directory, fingerprint })
      : `${printable(directory)} has another authority:\nSHA-256 ${fingerprint}\n`,
  );
}
