/** `afterimage checkpoint create|list|pin|unpin|delete`: names for points. */
import type { Command } from 'commander';
import { agentControlService, receiverControlService, type CheckpointInfo } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { duration, isName } from '../service/config.js';
import { probeUnix } from '../service/listen.js';
import type { RpcClient } from '../service/rpc.js';
import {
  ANSWER_MS_MAX,
  hasCode,
  isAway,
  receiverElseAgent,
  withDaemon,
  withSocket,
  WORK_MS_MAX,
} from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import {
  type ClientOptions,
  controlSocket,
  examples,
  nameArgument,
  namedControl,
  receiverVerb,
  remoteReceiver,
} from './option.js';
import { confirmLock, confirmUnpin } from './pin_confirmation.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, stateCell, type Column, type Paint } from './table.js';

const UNTIL =
  'nobody can unpin or delete it before that time, whatever their role: an RFC 3339 time, or a length such as 30d';
const LOCK_UNASKED = 'lock it without asking';
const LOCK_LENGTH = duration(1_000_000_000n, 36_500n * 86_400_000_000_000n);
const COLUMNS: readonly Column[] = [
  { heading: 'GROUP', align: 'left' },
  { heading: 'CHECKPOINT', align: 'left' },
  { heading: 'LSN', align: 'right' },
  { heading: 'TIME', align: 'left' },
  { heading: 'CONSISTENCY', align: 'left' },
  { heading: 'GRADE', align: 'left' },
  { heading: 'PINNED', align: 'left' },
];

export function addCheckpoint(program: Command, surroundings: Surroundings): void {
  const checkpoint = program
    .command('checkpoint')
    .description('name a point of a group, list and keep named points')
    .helpCommand(false);
  const create = receiverVerb(
    checkpoint,
    'create',
    'name the present instant; returns when that point is durable',
    'operator',
  )
    .argument('<group>', 'protection group', nameArgument)
    .argument('<name>', 'name of the checkpoint, new in the group', checkpointArgument)
    .option('--pin', 'keep it, and all history behind it, until it is unpinned (asks the receiver)')
    .option('--until <time>', UNTIL)
    .option('--yes', LOCK_UNASKED)
    .action((group: string, name: string, options: CreateOptions) =>
      createCheckpoint(group, name, options, surroundings),
    );
  examples(create, [
    ['afterimage checkpoint create db before-upgrade', 'mark the instant before something risky'],
    ['afterimage checkpoint create db golden --pin', 'one that retention does not take'],
    ['afterimage export db --at checkpoint:before-upgrade', 'go back to it'],
  ]);
  const list = receiverVerb(checkpoint, 'list', 'list named points', 'viewer')
    .argument('[group]', 'only those of this group', nameArgument)
    .action((group: string | undefined, options: ClientOptions) =>
      listCheckpoints(group ?? '', options, surroundings),
    );
  examples(list, [['afterimage checkpoint list db', 'the checkpoints of the group db']]);
  addPin(checkpoint, 'pin', 'keep a named point, and all history behind it, from retention', surroundings);
  addPin(checkpoint, 'unpin', 'let retention have a named point when it is due', surroundings);
  const remove = receiverVerb(
    checkpoint,
    'delete',
    'forget a name; the point stays for as long as it is held',
    'admin',
  )
    .argument('<group>', 'protection group', nameArgument)
    .argument('<name>', 'name of the checkpoint', checkpointArgument)
    .action((group: string, name: string, options: ClientOptions) =>
      deleteCheckpoint(group, name, options, surroundings),
    );
  examples(remove, [['afterimage checkpoint delete db before-upgrade', 'the name can be used again']]);
}

interface PinOptions extends ClientOptions {
  until?: string;
  yes?: true;
}
interface CreateOptions extends PinOptions {
  pin?: true;
}

function addPin(
  checkpoint: Command,
  verb: 'pin' | 'unpin',
  description: string,
  surroundings: Surroundings,
): void {
  const pin = receiverVerb(checkpoint, verb, description, verb === 'pin' ? 'operator' : 'admin')
    .argument('<group>', 'protection group', nameArgument)
    .argument('<name>', 'name of the checkpoint', checkpointArgument)
    .action(async (group: string, name: string, options: PinOptions) => {
      const request = { group, name, pinned: verb === 'pin', lockUntilNs: lockUntil(options, surroundings) };
      const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
      const made = await withDaemon('receiver', options, surroundings, async (client) => {
        if (verb === 'unpin') await confirmUnpin(client, request, options, surroundings);
        await confirmLock(client, request, options, surroundings);
        return client.callUnary(receiverControlService.checkpointPin, request, limits);
      });
      tell(made, options, surroundings);
    });
  if (verb === 'pin') pin.option('--until <time>', UNTIL).option('--yes', LOCK_UNASKED);
  else pin.option('--yes', 'without asking, also where history is let go of by that');
  examples(pin, [[`afterimage checkpoint ${verb} db before-upgrade`, description]]);
}

async function deleteCheckpoint(
  group: string,
  name: string,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, stop } = surroundings;
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: stop.drain };
  await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(receiverControlService.checkpointDelete, { group, name }, limits),
  );
  if (options.json === true) stdout.write(jsonLine({ group, name, deleted: true }));
  else stdout.write(`${printable(`checkpoint ${name} of ${group} is forgotten`)}\n`);
}

async function createCheckpoint(
  group: string,
  name: string,
  options: CreateOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stop } = surroundings;
  const pin = options.pin ?? false;
  if (!pin && options.until !== undefined) throw new AfterimageError('USAGE', '--until needs --pin');
  const request = { group, name, pin, lockUntilNs: lockUntil(options, surroundings) };
  const limits = { timeoutMs: WORK_MS_MAX, signal: stop.drain };
  const askReceiver: Ask = async (client) => {
    await confirmLock(client, request, options, surroundings);
    return client.callUnary(receiverControlService.checkpointCreate, request, limits);
  };
  const askAgent: Ask = (client) => client.callUnary(agentControlService.checkpointCreate, request, limits);
  if (pin || remoteReceiver(options, surroundings) !== null) {
    tell(await withDaemon('receiver', options, surroundings, askReceiver), options, surroundings);
    return;
  }
  const named = await namedControl(options, surroundings);
  const made =
    named === null
      ? await createHere(askReceiver, askAgent, options, surroundings)
      : await withSocket(named, (client) =>
          receiverElseAgent(
            () => askReceiver(client),
            () => askAgent(client),
          ),
        );
  tell(made, options, surroundings);
}

function tell(made: CheckpointInfo, { json }: ClientOptions, { stdout }: Surroundings): void {
  stdout.write(json === true ? jsonLine(jsonOf(made)) : `${describe(made)}\n`);
}

type Ask = (client: RpcClient) => Promise<CheckpointInfo>;

/**
 * Either daemon can make one. The receiver is asked if it is here; the agent where it is not, and where it has nothing to
 * do with the group or with its agent: this may be a protected host that is another's recovery site. Errors:
 * DAEMON_UNREACHABLE when neither daemon is here.
 */
async function createHere(
  askReceiver: Ask,
  askAgent: Ask,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<CheckpointInfo> {
  const receiver = await controlSocket('receiver', options, surroundings);
  const agent = await controlSocket('agent', options, surroundings);
  if (!(await isHere(receiver))) {
    if (await isHere(agent)) return withDaemon('agent', options, surroundings, askAgent);
    const tried = `neither a receiver at ${receiver} nor an agent at ${agent}`;
    throw new AfterimageError('DAEMON_UNREACHABLE', tried);
  }
  try {
    return await withDaemon('receiver', options, surroundings, askReceiver);
  } catch (refusal) {
    if (!hasCode(refusal, 'GROUP_UNKNOWN', 'AGENT_AWAY') || !(await isHere(agent))) throw refusal;
    try {
      return await withDaemon('agent', options, surroundings, askAgent);
    } catch (thrown) {
      // Not the agent's business either: the receiver's answer was the better one.
      throw hasCode(thrown, 'GROUP_UNKNOWN') ? refusal : thrown;
    }
  }
}

/** Errors: PERMISSION_DENIED. */
async function isHere(socket: string): Promise<boolean> {
  try {
    await probeUnix(socket);
    return true;
  } catch (thrown) {
    if (!isAway(thrown)) throw thrown;
    return false;
  }
}

async function listCheckpoints(
  group: string,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const list = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(
      receiverControlService.checkpointList,
      { group },
      { timeoutMs: ANSWER_MS_MAX, signal: stop.drain },
    ),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(list)));
  else if (list.checkpoints.length === 0) stdout.write('There are no checkpoints.\n');
  else stdout.write(checkpointTable(list.checkpoints, painter(stdout, env)));
}

export function checkpointTable(checkpoints: readonly CheckpointInfo[], paint: Paint): string {
  const rows = checkpoints.map(({ group, name, lsn, timeNs, consistency, grade, pinned, lockedUntilNs }) => [
    group,
    name,
    lsn.toString(),
    formatTime(timeNs),
    consistency,
    stateCell(grade),
    !pinned ? '' : lockedUntilNs > 0n ? `until ${formatTime(lockedUntilNs)}` : 'yes',
  ]);
  return renderTable(COLUMNS, rows, paint);
}

function describe({ group, name, lsn, timeNs, consistency, pinned, lockedUntilNs }: CheckpointInfo): string {
  const lock = lockedUntilNs > 0n ? ` and locked until ${formatTime(lockedUntilNs)}` : '';
  const kept = pinned ? `, pinned${lock}` : '';
  return printable(
    `checkpoint ${name} of ${group}: lsn:${lsn}, ${formatTime(timeNs)}, ${consistency}-consistent, durable${kept}`,
  );
}

/** Nanoseconds since 1970; 0n: there is no lock. Errors: USAGE. */
function lockUntil({ until }: PinOptions, { now }: Surroundings): bigint {
  if (until === undefined) return 0n;
  const length = LOCK_LENGTH.safeParse(until);
  const nowNs = BigInt(now()) * 1_000_000n;
  if (length.success) return nowNs + length.data;
  const ms = /^\d{4}-\d{2}-\d{2}T.*(Z|[+-]\d{2}:\d{2})$/.test(until) ? Date.parse(until) : NaN;
  if (!(ms > now()))
    throw new AfterimageError(
      'USAGE',
      `--until ${until}: expected a time to come, such as 2027-01-31T00:00:00Z, or 30d`,
    );
  return BigInt(ms) * 1_000_000n;
}

/** Errors: CHECKPOINT_INVALID. */
function checkpointArgument(text: string): string {
  if (!isName(text)) throw new AfterimageError('CHECKPOINT_INVALID', `${JSON.stringify(text)} is not a name`);
  return text;
}
