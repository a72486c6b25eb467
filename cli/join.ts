/** `afterimage agent join`: makes this host known to a receiver. */
import type { Command } from 'commander';
import { confirm } from './confirmation.js';
import { jsonLine } from './json.js';
import { configFile, examples, jsonOption, nameArgument, networkAddressArgument } from './option.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';

interface JoinOptions {
  config?: string;
  name?: string;
  yes?: true;
  json?: true;
}

export function addJoin(agent: Command, surroundings: Surroundings): void {
  const join = agent
    .command('join')
    .description(
      'make this host known to a receiver: pins its authority, makes a key that never leaves this host, and has it signed. An agent that runs goes on with it by itself',
    )
    .argument('<address>', 'HOST:PORT of the receiver', networkAddressArgument)
    .argument(
      '<token>',
      'that `afterimage receiver token create --host NAME` printed there; "-": from standard input',
    )
    .option('--name <name>', "name of this host, as the token has it; otherwise the system's", nameArgument)
    .option(
      '--config <file>',
      "the agent's configuration, which names its state directory (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/agent.toml)",
    )
    .option('--yes', 'also where it has joined another receiver, without asking')
    .addOption(jsonOption())
    .action((address: string, token: string, options: JoinOptions) =>
      run(address, token, options, surroundings),
    );
  examples(join, [
    ['afterimage agent join backup.example.org:7443 afterimage-…', 'as root'],
    ['afterimage agent join backup.example.org:7443 - < token', 'so that no list of processes shows it'],
  ]);
}

async function run(
  address: string,
  token: string,
  options: JoinOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, stdout, readInput } = surroundings;
  const { name, receiver, fingerprint, replaced } = await daemons.joinReceiver({
    address,
    token: token === '-' ? (await readInput()).trim() : token,
    config: configFile('agent', options.config, surroundings),
    name: options.name ?? null,
    confirm: async (before) => {
      const consequence =
        before === address
          ? `the receiver at ${address} has another authority than the one that this host has joined: either its own was made anew, or it is another receiver, which gets a new copy of every volume`
          : `this host has joined ${before} as well: it will replicate to ${address} alone, with a new copy of every volume`;
      const question = `Join ${address}?`;
      await confirm({ question, consequence, otherwise: 'nothing was joined' }, options, surroundings);
    },
  });
  stdout.write(
    options.json === true
      ? jsonLine({ name, receiver, fingerprint, replaced })
      : `${printable(`this host is ${name} to the receiver at ${receiver}, whose authority is`)}\nSHA-256 ${fingerprint}\n`,
  );
}
