/** `afterimage receiver host …`, `receiver operator …` and `receiver authority`: who may connect. */
import type { Command } from 'commander';
import { accessService, type IdentityInfo, type IdentityKind } from '../proto/access.js';
import { formatTime } from '../proto/time.js';
import { confirm } from './confirmation.js';
import { ANSWER_MS_MAX, withDaemon } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { type ClientOptions, examples, nameArgument, receiverVerb } from './option.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, type Cell, type Column } from './table.js';

const COLUMNS: Readonly<Record<IdentityKind, readonly Column[]>> = {
  host: [
    { heading: 'HOST', align: 'left' },
    { heading: 'STATE', align: 'left' },
    { heading: 'GROUPS', align: 'left' },
    { heading: 'CONNECTIONS', align: 'right' },
    { heading: 'JOINED', align: 'left' },
    { heading: 'CERTIFICATE UNTIL', align: 'left' },
  ],
  operator: [
    { heading: 'OPERATOR', align: 'left' },
    { heading: 'STATE', align: 'left' },
    { heading: 'ROLE', align: 'left' },
    { heading: 'CONNECTIONS', align: 'right' },
    { heading: 'JOINED', align: 'left' },
    { heading: 'CERTIFICATE UNTIL', align: 'left' },
  ],
};

interface RevokeOptions extends ClientOptions {
  yes?: true;
}

export function addIdentities(receiver: Command, surroundings: Surroundings): void {
  const host = receiver.command('host').description('the hosts that have joined').helpCommand(false);
  addList(host, 'host', surroundings);
  addRevoke(host, 'host', surroundings);
  addGrant(host, 'grant', 'let a host write to a group, now and when it comes to be', surroundings);
  addGrant(host, 'withdraw', 'let a host write to a group no more; what it has written stays', surroundings);
  const operator = receiver
    .command('operator')
    .description('the operators who have logged in')
    .helpCommand(false);
  addList(operator, 'operator', surroundings);
  addRevoke(operator, 'operator', surroundings);
  const authority = receiverVerb(
    receiver,
    'authority',
    'print the fingerprint of the authority that signs certificates',
    'viewer',
  ).action((options: ClientOptions) => tellAuthority(options, surroundings));
  examples(authority, [['afterimage receiver authority', 'to compare with what a host has pinned']]);
}

function addList(noun: Command, kind: IdentityKind, surroundings: Surroundings): void {
  const list = receiverVerb(noun, 'list', `list ${kind}s`, 'admin').action(async (options: ClientOptions) => {
    const { stdout, env, stop } = surroundings;
    const { identities } = await withDaemon('receiver', options, surroundings, (client) =>
      client.callUnary(
        accessService.identityList,
        { kind },
        { timeoutMs: ANSWER_MS_MAX, signal: stop.drain },
      ),
    );
    if (options.json === true) return stdout.write(jsonLine({ [`${kind}s`]: identities.map(jsonOf) }));
    stdout.write(renderTable(COLUMNS[kind], identities.map(row), painter(stdout, env)));
  });
  examples(list, [[`afterimage receiver ${kind} list`, `all ${kind}s, the revoked ones too`]]);
}

function addRevoke(noun: Command, kind: IdentityKind, surroundings: Surroundings): void {
  const what = kind === 'host' ? 'it is cut off at once; its history stays' : 'at once';
  const revoke = receiverVerb(noun, 'revoke', `let ${article(kind)} in no more: ${what}`, 'admin')
    .argument('<name>', `name of the ${kind}`, nameArgument)
    .option('--yes', 'without asking')
    .action(async (name: string, options: RevokeOptions) => {
      const { stdout, stop } = surroundings;
      const consequence =
        kind === 'host'
          ? `${name} is not protected from then on, until it joins again with a new token`
          : `${name} can do nothing here from then on`;
      const question = `Revoke ${kind} ${name}?`;
      const otherwise = `${kind} ${name} was not revoked`;
      await confirm({ question, consequence, otherwise }, options, surroundings);
      const info = await withDaemon('receiver', options, surroundings, (client) =>
        client.callUnary(
          accessService.identityRevoke,
          { kind, name },
          { timeoutMs: ANSWER_MS_MAX, signal: stop.drain },
        ),
      );
      stdout.write(
        options.json === true
          ? jsonLine(jsonOf(info))
          : `${printable(`${kind} ${name} is let in no more`)}\n`,
      );
    });
  examples(revoke, [
    kind === 'host'
      ? [`afterimage receiver host revoke db1`, 'one that was taken over, or taken away']
      : [`afterimage receiver operator revoke anna`, 'somebody who has left'],
  ]);
}

function addGrant(
  noun: Command,
  verb: 'grant' | 'withdraw',
  description: string,
  surroundings: Surroundings,
): void {
  const grant = receiverVerb(noun, verb, `${description}`, 'admin')
    .argument('<host>', 'name of the host', nameArgument)
    .argument('<group>', 'protection group', nameArgument)
    .action(async (host: string, group: string, options: ClientOptions) => {
      const { stdout, stop } = surroundings;
      const request = { host, group, granted: verb === 'grant' };
      const info = await withDaemon('receiver', options, surroundings, (client) =>
        client.callUnary(accessService.hostGrant, request, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
      );
      if (options.json === true) return stdout.write(jsonLine(jsonOf(info)));
      const groups = info.groups.length === 0 ? 'no group' : info.groups.join(', ');
      stdout.write(`${printable(`host ${host} may write to ${groups}`)}\n`);
    });
  examples(grant, [[`afterimage receiver host ${verb} db2 shop`, description]]);
}

async function tellAuthority(options: ClientOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stop } = surroundings;
  const authority = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(accessService.authority, {}, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
  );
  stdout.write(options.json === true ? jsonLine(jsonOf(authority)) : `SHA-256 ${authority.fingerprint}\n`);
}

function row({
  kind,
  name,
  role,
  groups,
  foundsGroups,
  joinedNs,
  expiresNs,
  revokedNs,
  connections,
}: IdentityInfo): (string | Cell)[] {
  const state: Cell =
    revokedNs === 0n ? { text: 'joined', colour: 'plain' } : { text: 'revoked', colour: 'red' };
  const may = [...groups, ...(foundsGroups ? ['(new ones)'] : [])].join(', ');
  return [
    name,
    state,
    kind === 'host' ? may : role,
    String(connections),
    formatTime(joinedNs),
    formatTime(expiresNs),
  ];
}

function article(kind: IdentityKind): string {
  return kind === 'host' ? 'a host' : 'an operator';
}
