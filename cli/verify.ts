/** `afterimage verify`: volumes compared with their replicas at the receiver, while production goes on. */
import type { Command } from 'commander';
import { agentControlService, type DifferingExtent, type VerificationProgress } from '../proto/control.js';
import { EXIT } from '../proto/errors.js';
import { withDaemon } from './daemon_client.js';
import { rateArgument } from './fsck.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, examples, nameArgument, type ClientOptions } from './option.js';
import { formatBytes } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import type { Surroundings } from './surroundings.js';
import { painter, renderTable, type Cell, type Column, type Paint } from './table.js';
import { Verdict } from './verdict.js';

const COLUMNS: readonly Column[] = [
  { heading: 'VOLUME', align: 'left' },
  { heading: 'COMPARED', align: 'right' },
  { heading: 'LSN', align: 'right' },
  { heading: 'OFFSET', align: 'right' },
  { heading: 'LENGTH', align: 'right' },
  { heading: 'RESULT', align: 'left' },
];

interface VerifyOptions extends ClientOptions {
  volume?: string;
  repair?: true;
  rateMax?: bigint;
}
interface VerifiedVolume {
  volume: string;
  bytesTotal: bigint;
  lsn: bigint;
  repaired: boolean;
  differing: DifferingExtent[];
}

export function addVerify(program: Command, surroundings: Surroundings): void {
  const verify = clientVerb(
    program,
    'verify',
    'compare volumes with their replicas while production goes on, and name what differs (asks the agent)',
  )
    .argument('<group>', 'the group', nameArgument)
    .option('--volume <name>', 'one volume; otherwise all that the agent has', nameArgument)
    .option('--repair', 'send what differs again: the newest points are right from then on')
    .option('--rate-max <bytes>', 'compare at most so much a second; otherwise 64MiB', rateArgument)
    .action((group: string, options: VerifyOptions) => run(group, options, surroundings));
  examples(verify, [
    ['afterimage verify shop', 'all volumes of a group'],
    ['afterimage verify shop --volume data --repair --rate-max 200MiB', 'one, faster, and mend it'],
  ]);
}

async function run(group: string, options: VerifyOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stderr, env, stop } = surroundings;
  const isJson = options.json === true;
  const share = new ShareOfBytes(stderr, isJson);
  const verified: VerifiedVolume[] = [];
  let differing: DifferingExtent[] = [];
  await withDaemon('agent', options, surroundings, async (client) => {
    const request = {
      group,
      volume: options.volume ?? '',
      repair: options.repair === true,
      rateMax: options.rateMax ?? 0n,
    };
    const limits = { timeoutMs: null, signal: stop.drain };
    for await (const message of client.callStream(agentControlService.verify, request, limits)) {
      show(share, group, message);
      join(differing, message.extents);
      if (message.phase !== 'done') continue;
      const { volume, bytesTotal, lsn, repaired } = message;
      verified.push({ volume, bytesTotal, lsn, repaired, differing });
      differing = [];
    }
  }).finally(() => share.end());
  stdout.write(
    isJson ? jsonLine({ group, verified: jsonOf(verified) }) : renderVerified(verified, painter(stdout, env)),
  );
  const isDifferent = verified.some((volume) => volume.differing.length > 0);
  if (isDifferent) throw new Verdict(verified.every(isEqualNow) ? EXIT.repaired : EXIT.differs);
}

function isEqualNow({ differing, repaired }: VerifiedVolume): boolean {
  return differing.length === 0 || repaired;
}

function show(share: ShareOfBytes, group: string, message: VerificationProgress): void {
  const { volume, bytesDone, bytesTotal } = message;
  const what = { verb: 'verifying', subject: `${group}/${volume}`, stage: volume };
  share.show({ ...what, fields: jsonOf(message) }, bytesDone, bytesTotal);
}

/** Adds ascending extents; neighbours become one. */
function join(extents: DifferingExtent[], more: readonly DifferingExtent[]): void {
  for (const { offset, length } of more) {
    const last = extents.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else extents.push({ offset, length });
  }
}

function renderVerified(verified: readonly VerifiedVolume[], paint: Paint): string {
  const rows = verified.flatMap(({ volume, bytesTotal, lsn, repaired, differing }): (string | Cell)[][] => {
    const head = [volume, formatBytes(bytesTotal), lsn.toString()];
    if (differing.length === 0) return [[...head, '', '', { text: 'equal', colour: 'green' }]];
    const result: Cell = repaired
      ? { text: 'repaired', colour: 'yellow' }
      : { text: 'differs', colour: 'red' };
    return differing.map(({ offset, length }) => [...head, offset.toString(), length.toString(), result]);
  });
  return renderTable(COLUMNS, rows, paint);
}
