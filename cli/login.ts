/** `afterimage login|logout`: an operator at a receiver elsewhere. */
import type { Command } from 'commander';
import { AfterimageError } from '../proto/errors.js';
import { jsonLine } from './json.js';
import { forgetLogin, keepLogin } from './logins.js';
import { examples, jsonOption, networkAddressArgument } from './option.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';

interface LoginOptions {
  json?: true;
}

export function addLogin(program: Command, surroundings: Surroundings): void {
  const login = program
    .command('login')
    .description(
      'become known to a receiver elsewhere as an operator; verbs with --receiver ask it from then on',
    )
    .argument('<address>', 'HOST:PORT of the receiver', networkAddressArgument)
    .argument(
      '<token>',
      'that `afterimage receiver token create --operator NAME` printed there; "-": from standard input',
    )
    .addOption(jsonOption())
    .action((address: string, token: string, options: LoginOptions) =>
      logIn(address, token, options, surroundings),
    );
  examples(login, [
    [
      'afterimage login backup.example.org:7443 afterimage-…',
      'then: afterimage status --receiver backup.example.org:7443',
    ],
    ['afterimage login backup.example.org:7443 - < token', 'so that no list of processes shows it'],
  ]);
  const logout = program
    .command('logout')
    .description('forget who one was at a receiver elsewhere: the key is removed from this machine')
    .argument('<address>', 'HOST:PORT of the receiver', networkAddressArgument)
    .addOption(jsonOption())
    .action((address: string, options: LoginOptions) => logOut(address, options, surroundings));
  examples(logout, [['afterimage logout backup.example.org:7443', 'on a machine that is not used any more']]);
}

async function logIn(
  address: string,
  token: string,
  options: LoginOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, stdout, readInput } = surroundings;
  const text = token === '-' ? (await readInput()).trim() : token;
  const identity = await daemons.logIn({ address, token: text });
  const file = await keepLogin(address, identity, surroundings);
  const { name, role } = identity;
  stdout.write(
    options.json === true
      ? jsonLine({ name, role, receiver: address, file })
      : `${printable(`logged in to ${address} as ${name}, ${role}; the key is in ${file}`)}\n`,
  );
}

async function logOut(address: string, options: LoginOptions, surroundings: Surroundings): Promise<void> {
  if (!(await forgetLogin(address, surroundings)))
    throw new AfterimageError('IDENTITY_MISSING', `nobody has logged in to ${address} from here`);
  surroundings.stdout.write(
    options.json === true
      ? jsonLine({ receiver: address, loggedOut: true })
      : `${printable(`logged out of ${address}`)}\n`,
  );
}
