/** `afterimage receiver token create|list|delete`: how hosts and operators come to join. */
import { InvalidArgumentError, Option, type Command } from 'commander';
import { accessService, OPERATOR_ROLES, type OperatorRole, type TokenInfo } from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { duration } from '../service/settings.js';
import { ANSWER_MS_MAX, withDaemon } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { type ClientOptions, examples, nameArgument, receiverVerb } from './option.js';
import { formatTimeOr } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, type Column } from './table.js';

const COLUMNS: readonly Column[] = [
  { heading: 'TOKEN', align: 'left' },
  { heading: 'FOR', align: 'left' },
  { heading: 'ROLE', align: 'left' },
  { heading: 'GROUPS', align: 'left' },
  { heading: 'CREATED', align: 'left' },
  { heading: 'EXPIRES', align: 'left' },
  { heading: 'USED', align: 'left' },
];
const TTL = duration(1_000_000_000n, 7n * 86_400_000_000_000n);
const TTL_DEFAULT = '1h';

interface CreateOptions extends ClientOptions {
  host?: string;
  operator?: string;
  role?: OperatorRole;
  group?: string[];
  ttl: string;
}

export function addToken(receiver: Command, surroundings: Surroundings): void {
  const token = receiver
    .command('token')
    .description('make the tokens by which hosts and operators join')
    .helpCommand(false);
  const create = receiverVerb(
    token,
    'create',
    'make a token, good for one join, and print it: whoever has it can be that host or operator',
    'admin',
  )
    .option('--host <name>', 'for `agent join` on the host of that name', nameArgument)
    .option('--operator <name>', 'for `login` by the person of that name', nameArgument)
    .addOption(new Option('--role <role>', 'of the operator').choices(OPERATOR_ROLES))
    .option(
      '--group <name>',
      'a group that the host may write to; can be given several times. Without it the host may begin groups that nobody has',
      (name: string, before: string[] = []) => [...before, nameArgument(name)],
    )
    .option('--ttl <duration>', 'how long it is good for', ttlArgument, TTL_DEFAULT)
    .action((options: CreateOptions) => createToken(options, surroundings));
  examples(create, [
    ['afterimage receiver token create --host db1', 'then, on db1: afterimage agent join ADDRESS TOKEN'],
    ['afterimage receiver token create --host db2 --group shop --ttl 10m', 'a second host of the group shop'],
    [
      'afterimage receiver token create --operator anna --role operator',
      'then anna: afterimage login ADDRESS TOKEN',
    ],
  ]);
  const list = receiverVerb(token, 'list', 'list tokens and what has become of them', 'admin').action(
    (options: ClientOptions) => listTokens(options, surroundings),
  );
  examples(list, [['afterimage receiver token list', 'those that were used too, for a week']]);
  const remove = receiverVerb(token, 'delete', 'make a token void that was not used yet', 'admin')
    .argument('<token>', 'as `token list` calls it')
    .action((id: string, options: ClientOptions) => deleteToken(id, options, surroundings));
  examples(remove, [['afterimage receiver token delete 3f2a91c4', 'one that went to the wrong person']]);
}

async function createToken(options: CreateOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stderr, stop } = surroundings;
  const { host, operator, role, group: groups = [], ttl } = options;
  const name = host ?? operator;
  if (name === undefined || (host !== undefined && operator !== undefined))
    throw new AfterimageError('USAGE', 'either --host or --operator says whom the token is for');
  const isHost = host !== undefined;
  if (isHost && role !== undefined) throw new AfterimageError('USAGE', '--role is for an operator');
  if (!isHost && role === undefined)
    throw new AfterimageError('USAGE', `--operator needs --role ${OPERATOR_ROLES.join('|')}`);
  if (!isHost && groups.length > 0) throw new AfterimageError('USAGE', '--group is for a host');
  const request = {
    ...{ kind: isHost ? 'host' : 'operator', name, role: role ?? '', groups },
    foundsGroups: isHost && groups.length === 0,
    ttlNs: TTL.parse(ttl),
  };
  const { token, info } = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(accessService.tokenCreate, request, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
  );
  if (options.json === true) return stdout.write(jsonLine({ token, info: jsonOf(info) }));
  stdout.write(`${token}\n`);
  const verb = isHost
    ? `afterimage agent join ADDRESS TOKEN, on ${name}`
    : `afterimage login ADDRESS TOKEN, by ${name}`;
  if (info !== null) stderr.write(`good for one \`${verb}\`, until ${formatTime(info.expiresNs)}\n`);
}

async function listTokens(options: ClientOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const { tokens } = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(accessService.tokenList, {}, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
  );
  if (options.json === true) return stdout.write(jsonLine({ tokens: tokens.map(jsonOf) }));
  stdout.write(renderTable(COLUMNS, tokens.map(row), painter(stdout, env)));
}

async function deleteToken(id: string, options: ClientOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stop } = surroundings;
  await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(accessService.tokenDelete, { id }, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
  );
  stdout.write(
    options.json === true ? jsonLine({ id, deleted: true }) : `${printable(`token ${id} is void`)}\n`,
  );
}

function row({
  id,
  kind,
  name,
  role,
  groups,
  foundsGroups,
  createdNs,
  expiresNs,
  usedNs,
}: TokenInfo): string[] {
  return [
    id,
    `${kind} ${name}`,
    role,
    foundsGroups ? 'its own' : groups.join(', '),
    formatTime(createdNs),
    formatTime(expiresNs),
    formatTimeOr(usedNs, 'no'),
  ];
}

function ttlArgument(text: string): string {
  const parsed = TTL.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message}.`);
  return text;
}
