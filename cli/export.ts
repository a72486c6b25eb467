/** `afterimage export GROUP --at POINT`, `export list`, `export close ID`: points opened as block devices. */
import path from 'node:path';
import { Option, type Command } from 'commander';
import { receiverControlService, type ExportInfo, type ExportOpenRequest } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import type { RpcClient } from '../service/rpc.js';
import { ANSWER_MS_MAX, withDaemon, WORK_MS_MAX } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import {
  addClientOptions,
  addressArgument,
  examples,
  nameArgument,
  receiverOption,
  receiverVerb,
  type ClientOptions,
} from './option.js';
import { formatBytes, formatDuration } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, stateCell, type Column, type Paint } from './table.js';

/** How long an interrupted opening may still answer. */
const GIVE_UP_MS = 3_000;

const VOLUME_COLUMNS: readonly Column[] = [
  { heading: 'VOLUME', align: 'left' },
  { heading: 'SIZE', align: 'right' },
  { heading: 'OPEN IT AT', align: 'left' },
];
const LIST_COLUMNS: readonly Column[] = [
  { heading: 'ID', align: 'left' },
  { heading: 'GROUP', align: 'left' },
  { heading: 'LSN', align: 'right' },
  { heading: 'TIME', align: 'left' },
  { heading: 'GRADE', align: 'left' },
  { heading: 'ACCESS', align: 'left' },
  ...VOLUME_COLUMNS,
];

interface OpenOptions extends ClientOptions {
  at: string;
  writable?: true;
  socket?: string;
  tcp?: string;
  device?: true;
  volume?: string[];
  force?: true;
}

export function addExport(program: Command, surroundings: Surroundings): void {
  const noun = program
    .command('export')
    .description('open a point of a group as block devices, without copying anything')
    .helpCommand(false)
    .usage('GROUP --at POINT [options] | list [options] | close ID [options]');
  // The default: `export GROUP` is `export open GROUP`, which also reaches a group that is named like a verb.
  const open = addOpen(noun, surroundings);
  noun.addHelpText('after', () => `\n${open.helpInformation()}`);
  examples(noun, [
    ['afterimage export db --at latest', 'the newest point, read-only over NBD'],
    ['afterimage export db --at -90s --writable --device', 'a scratch copy to mount, as loop devices (root)'],
    ['afterimage export list', 'what is open'],
    ['afterimage export close 78005a11', 'close it; its scratch overlay goes with it'],
  ]);
  const list = receiverVerb(noun, 'list', 'list open exports', 'viewer').action((options: ClientOptions) =>
    listExports(options, surroundings),
  );
  examples(list, [['afterimage export list --json', 'for a program']]);
  const close = receiverVerb(noun, 'close', 'close an export and drop what was written to it', 'operator')
    .argument('<id>', 'as `export list` shows it')
    .action((id: string, options: ClientOptions) => closeExport(id, options, surroundings));
  examples(close, [['afterimage export close 78005a11', 'close the export 78005a11']]);
}

function addOpen(noun: Command, surroundings: Surroundings): Command {
  const open = noun
    .command('open', { isDefault: true })
    .description('open a point (what `export GROUP` does; role: operator)')
    .argument('<group>', 'protection group', nameArgument)
    .requiredOption('--at <point>', 'latest, lsn:N, an RFC 3339 time, -90s, or checkpoint:NAME')
    .option('--writable', 'take writes into an overlay that is gone with the export')
    .addOption(new Option('--socket <path>', 'serve NBD on this Unix socket').conflicts(['tcp', 'device']))
    .addOption(
      new Option('--tcp <address>', 'serve NBD on this loopback address, such as 127.0.0.1:10809')
        .argParser(addressArgument)
        .conflicts(['socket', 'device']),
    )
    .addOption(new Option('--device', 'attach loop devices (root)').conflicts(['socket', 'tcp']))
    .option('--volume <names...>', 'only these volumes')
    .option('--force', 'open the point although its grade is not `ordered`');
  return addClientOptions(open)
    .addOption(receiverOption())
    .action((group: string, options: OpenOptions) => openExport(group, options, surroundings));
}

async function openExport(group: string, options: OpenOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, env, cwd } = surroundings;
  const request: ExportOpenRequest = {
    group,
    point: options.at,
    writable: options.writable ?? false,
    socket: options.socket === undefined ? '' : path.resolve(cwd, options.socket),
    tcp: options.tcp ?? '',
    device: options.device ?? false,
    volumes: (options.volume ?? []).map(nameArgument),
    force: options.force ?? false,
  };
  const opened = await withDaemon('receiver', options, surroundings, (client) =>
    openOrNothing(client, request, surroundings),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(opened)));
  else stdout.write(renderExport(opened, painter(stdout, env)));
}

/**
 * Opens an export. Ctrl-C may cross with the answer, and then there would be one that nobody knows of: so the answer is
 * waited for, a little, and what was opened is closed again. Errors: INTERRUPTED, and those of the daemon.
 */
async function openOrNothing(
  client: RpcClient,
  request: ExportOpenRequest,
  { stop, sleep }: Surroundings,
): Promise<ExportInfo> {
  const answered = new AbortController();
  const givenUp = new AbortController();
  const giveUp = async (): Promise<void> => {
    await sleep(GIVE_UP_MS, AbortSignal.any([answered.signal, stop.end]));
    givenUp.abort();
  };
  const onDrain = (): void => void giveUp();
  stop.drain.addEventListener('abort', onDrain, { once: true });
  if (stop.drain.aborted) onDrain();
  try {
    const limits = { timeoutMs: WORK_MS_MAX, signal: givenUp.signal };
    const opened = await client.callUnary(receiverControlService.exportOpen, request, limits);
    if (!stop.drain.aborted) return opened;
    const { id } = opened;
    await client.callUnary(receiverControlService.exportClose, { id }, { timeoutMs: ANSWER_MS_MAX });
    throw new AfterimageError('INTERRUPTED', `export ${id} was opened, and is closed again`);
  } finally {
    stop.drain.removeEventListener('abort', onDrain);
    answered.abort();
  }
}

async function listExports(options: ClientOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const list = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(receiverControlService.exportList, {}, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(list)));
  else if (list.exports.length === 0) stdout.write('There are no exports.\n');
  else stdout.write(renderExports(list.exports, painter(stdout, env)));
}

async function closeExport(id: string, options: ClientOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stop } = surroundings;
  await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(
      receiverControlService.exportClose,
      { id },
      { timeoutMs: WORK_MS_MAX, signal: stop.drain },
    ),
  );
  stdout.write(
    options.json === true ? jsonLine({ id, closed: true }) : `export ${printable(id)} is closed\n`,
  );
}

export function renderExport(opened: ExportInfo, paint: Paint): string {
  const { id, group, lsn, timeNs, grade, openedInUs } = opened;
  const took = formatDuration(openedInUs * 1_000n);
  const head = `export ${id} of ${group} at lsn:${lsn}, ${formatTime(timeNs)} (${grade}, ${access(opened)}), open after ${took}`;
  return `${printable(head)}\n${renderTable(VOLUME_COLUMNS, opened.volumes.map(volumeRow), paint)}`;
}

/** The volumes of one export follow each other; what is the same for all stands in the first line. */
export function renderExports(exports: readonly ExportInfo[], paint: Paint): string {
  const rows = exports.flatMap((one) => {
    const head = [
      one.id,
      one.group,
      one.lsn.toString(),
      formatTime(one.timeNs),
      stateCell(one.grade),
      access(one),
    ];
    return one.volumes.map((volume, index) => [
      ...(index === 0 ? head : head.map(() => '')),
      ...volumeRow(volume),
    ]);
  });
  return renderTable(LIST_COLUMNS, rows, paint);
}

function volumeRow({ name, size, uri, device }: ExportInfo['volumes'][number]): string[] {
  return [name, formatBytes(size), device === '' ? uri : device];
}

function access({ writable }: ExportInfo): string {
  return writable ? 'writable' : 'read-only';
}
