/** `afterimage recover`: a point copied out in full, to files or a device. */
import path from 'node:path';
import type { Command } from 'commander';
import { receiverControlService, type RecoverProgress, type RecoverRequest } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import type { RpcClient } from '../service/rpc.js';
import { withDaemon } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { type ClientOptions, examples, receiverVerb, subjectArgument } from './option.js';
import { Progress } from './progress.js';
import { formatBytes } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, type Column, type Paint } from './table.js';

const COLUMNS: readonly Column[] = [
  { heading: 'VOLUME', align: 'left' },
  { heading: 'TARGET', align: 'left' },
  { heading: 'SIZE', align: 'right' },
  { heading: 'WRITTEN', align: 'right' },
  { heading: 'SHA-256', align: 'left' },
];

interface RecoverOptions extends ClientOptions {
  at: string;
  to: string;
  yes?: true;
  force?: true;
}

export function addRecover(program: Command, surroundings: Surroundings): void {
  const recover = receiverVerb(program, 'recover', 'copy a point out in full, verified', 'operator')
    .argument(
      '<subject>',
      'GROUP: every volume into a directory; GROUP/VOLUME: one, to a file or device',
      subjectArgument,
    )
    .requiredOption('--at <point>', 'latest, lsn:N, an RFC 3339 time, -90s, or checkpoint:NAME')
    .requiredOption('--to <target>', 'directory, file or block device')
    .option('--yes', 'overwrite a target that holds something')
    .option('--force', 'recover the point although its grade is not `ordered`')
    .action((subject: { group: string; volume: string }, options: RecoverOptions) =>
      run(subject, options, surroundings),
    );
  examples(recover, [
    ['afterimage recover db --at 2026-01-31T10:15:00Z --to /srv/rescue', 'every volume of db, a file each'],
    ['afterimage recover db/data --at checkpoint:noon --to /dev/vg/new --yes', 'one volume, onto a device'],
  ]);
}

async function run(
  { group, volume }: { group: string; volume: string },
  options: RecoverOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, cwd, env } = surroundings;
  const request: RecoverRequest = {
    group,
    volume,
    point: options.at,
    target: path.resolve(cwd, options.to),
    overwrite: options.yes ?? false,
    force: options.force ?? false,
  };
  const recovered = await withDaemon('receiver', options, surroundings, (client) =>
    recoverOrAsk(client, request, options, surroundings),
  );
  if (options.json === true) stdout.write(jsonLine({ group, volumes: jsonOf(recovered) }));
  else stdout.write(renderRecovered(group, recovered, painter(stdout, env)));
}

/** Without --yes a terminal is asked once the daemon has found that there is something to overwrite. */
async function recoverOrAsk(
  client: RpcClient,
  request: RecoverRequest,
  options: RecoverOptions,
  surroundings: Surroundings,
): Promise<RecoverProgress[]> {
  try {
    return await copy(client, request, options, surroundings);
  } catch (thrown) {
    const isRefused = thrown instanceof AfterimageError && thrown.code === 'TARGET_NOT_EMPTY';
    if (!isRefused || request.overwrite || options.json === true || surroundings.ask === null) throw thrown;
    if (!(await surroundings.ask(`${printable(thrown.message)}. Overwrite it?`))) throw thrown;
    return copy(client, { ...request, overwrite: true }, options, surroundings);
  }
}

/** The last word on every volume. Errors: INTERRUPTED, and those of the daemon. */
async function copy(
  client: RpcClient,
  request: RecoverRequest,
  options: RecoverOptions,
  { stderr, stop }: Surroundings,
): Promise<RecoverProgress[]> {
  const done: RecoverProgress[] = [];
  const progress = new Progress(stderr, options.json === true);
  try {
    const limits = { timeoutMs: null, signal: stop.drain };
    for await (const message of client.callStream(receiverControlService.recover, request, limits)) {
      progress.show(message);
      if (message.phase === 'done') done.push(message);
    }
  } catch (thrown) {
    throw resumable(thrown, progress);
  } finally {
    progress.end();
  }
  return done;
}

/** Says how to go on, for `latest` is another point by then. */
function resumable(thrown: unknown, { position, point }: Progress): unknown {
  if (!(thrown instanceof AfterimageError)) return thrown;
  const { code } = thrown;
  const isInterrupted = code === 'INTERRUPTED';
  // A target that failed its verification is worth nothing.
  if ((point === '' && !isInterrupted) || code === 'VERIFY_FAILED') return thrown;
  const what = isInterrupted ? `the recovery stopped ${position}` : thrown.message;
  const how = point === '' ? '' : `; with --at ${point} it goes on from there`;
  return new AfterimageError(code, `${what}${how}`, { cause: thrown });
}

export function renderRecovered(group: string, recovered: readonly RecoverProgress[], paint: Paint): string {
  const [first] = recovered;
  if (first === undefined) return `nothing of ${group} was recovered\n`;
  const rows = recovered.map(({ volume, target, bytesTotal, bytesWritten, sha256 }) => [
    volume,
    target,
    formatBytes(bytesTotal),
    formatBytes(bytesWritten),
    sha256,
  ]);
  const head = `recovered ${group} at lsn:${first.lsn}, ${formatTime(first.timeNs)}`;
  return `${printable(head)}\n${renderTable(COLUMNS, rows, paint)}`;
}
