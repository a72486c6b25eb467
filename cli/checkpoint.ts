/** `afterimage checkpoint create|list`: names for points. */
import type { Command } from 'commander';
import { agentControlService, receiverControlService, type CheckpointInfo } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { isName } from '../service/config.js';
import { probeUnix } from '../service/listen.js';
import {
  ANSWER_MS_MAX,
  isAway,
  receiverElseAgent,
  withDaemon,
  withSocket,
  WORK_MS_MAX,
} from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import {
  clientVerb,
  controlSocket,
  examples,
  nameArgument,
  namedControl,
  type ClientOptions,
} from './option.js';
import { formatTime } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, stateCell, type Column, type Paint } from './table.js';

const COLUMNS: readonly Column[] = [
  { heading: 'GROUP', align: 'left' },
  { heading: 'CHECKPOINT', align: 'left' },
  { heading: 'LSN', align: 'right' },
  { heading: 'TIME', align: 'left' },
  { heading: 'CONSISTENCY', align: 'left' },
  { heading: 'GRADE', align: 'left' },
];

export function addCheckpoint(program: Command, surroundings: Surroundings): void {
  const checkpoint = program
    .command('checkpoint')
    .description('name a point of a group, list named points')
    .helpCommand(false);
  const create = clientVerb(
    checkpoint,
    'create',
    'name the present instant; returns when that point is durable',
  )
    .argument('<group>', 'protection group', nameArgument)
    .argument('<name>', 'name of the checkpoint, new in the group', checkpointArgument)
    .action((group: string, name: string, options: ClientOptions) =>
      createCheckpoint(group, name, options, surroundings),
    );
  examples(create, [
    ['afterimage checkpoint create db before-upgrade', 'mark the instant before something risky'],
    ['afterimage export db --at checkpoint:before-upgrade', 'go back to it'],
  ]);
  const list = clientVerb(checkpoint, 'list', 'list named points')
    .argument('[group]', 'only those of this group', nameArgument)
    .action((group: string | undefined, options: ClientOptions) =>
      listCheckpoints(group ?? '', options, surroundings),
    );
  examples(list, [['afterimage checkpoint list db', 'the checkpoints of the group db']]);
}

/** Either daemon can make one: the receiver is asked if it is here, otherwise the agent. */
async function createCheckpoint(
  group: string,
  name: string,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, stop } = surroundings;
  const request = { group, name };
  const limits = { timeoutMs: WORK_MS_MAX, signal: stop.drain };
  const socket = await checkpointSocket(options, surroundings);
  const made = await withSocket(socket, (client) =>
    receiverElseAgent(
      () => client.callUnary(receiverControlService.checkpointCreate, request, limits),
      () => client.callUnary(agentControlService.checkpointCreate, request, limits),
    ),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(made)));
  else stdout.write(`${describe(made)}\n`);
}

/** Errors: DAEMON_UNREACHABLE when neither daemon is here. */
async function checkpointSocket(options: ClientOptions, surroundings: Surroundings): Promise<string> {
  const named = await namedControl(options, surroundings);
  if (named !== null) return named;
  const receiver = await controlSocket('receiver', options, surroundings);
  const agent = await controlSocket('agent', options, surroundings);
  for (const socket of [receiver, agent]) {
    try {
      await probeUnix(socket);
      return socket;
    } catch (thrown) {
      if (!isAway(thrown)) throw thrown;
    }
  }
  throw new AfterimageError(
    'DAEMON_UNREACHABLE',
    `neither a receiver at ${receiver} nor an agent at ${agent}`,
  );
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
  const rows = checkpoints.map(({ group, name, lsn, timeNs, consistency, grade }) => [
    group,
    name,
    lsn.toString(),
    formatTime(timeNs),
    consistency,
    stateCell(grade),
  ]);
  return renderTable(COLUMNS, rows, paint);
}

function describe({ group, name, lsn, timeNs, consistency }: CheckpointInfo): string {
  return printable(
    `checkpoint ${name} of ${group}: lsn:${lsn}, ${formatTime(timeNs)}, ${consistency}-consistent, durable`,
  );
}

/** Errors: CHECKPOINT_INVALID. */
function checkpointArgument(text: string): string {
  if (!isName(text)) throw new AfterimageError('CHECKPOINT_INVALID', `${JSON.stringify(text)} is not a name`);
  return text;
}
