/** `afterimage receiver scrub`: journals and bases read again in full, while everything goes on. */
import type { Command } from 'commander';
import { receiverControlService, type ScrubProgress } from '../proto/control.js';
import { AfterimageError, EXIT } from '../proto/errors.js';
import { withDaemon } from './daemon_client.js';
import { rateArgument } from './fsck.js';
import { jsonLine, jsonOf } from './json.js';
import { type ClientOptions, examples, nameArgument, receiverVerb } from './option.js';
import { formatBytes } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, type Cell, type Column, type Paint } from './table.js';
import { Verdict } from './verdict.js';

const COLUMNS: readonly Column[] = [
  { heading: 'GROUP', align: 'left' },
  { heading: 'HOST', align: 'left' },
  { heading: 'READ', align: 'right' },
  { heading: 'DAMAGED', align: 'right' },
];

interface ScrubOptions extends ClientOptions {
  rate?: bigint;
}

export function addScrub(receiver: Command, surroundings: Surroundings): void {
  const scrub = receiverVerb(
    receiver,
    'scrub',
    'read journals and bases again in full, and record what is damaged; everything goes on meanwhile',
    'operator',
  )
    .argument('[group]', 'one group; otherwise all of them', nameArgument)
    .option('--rate <bytes>', 'read at most so much a second; otherwise as configured', rateArgument)
    .action((group: string | undefined, options: ScrubOptions) => run(group ?? '', options, surroundings));
  examples(scrub, [
    ['afterimage receiver scrub', 'every group'],
    ['afterimage receiver scrub shop --rate 200MiB', 'one, faster than usual'],
  ]);
}

async function run(group: string, options: ScrubOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stderr, env, stop } = surroundings;
  const isJson = options.json === true;
  const share = new ShareOfBytes(stderr, isJson);
  const done: ScrubProgress[] = [];
  await withDaemon('receiver', options, surroundings, async (client) => {
    const request = { group, rateMax: options.rate ?? 0n };
    const limits = { timeoutMs: null, signal: stop.drain };
    for await (const message of client.callStream(receiverControlService.scrub, request, limits)) {
      show(share, message);
      if (message.phase === 'done') done.push(message);
    }
  }).finally(() => share.end());
  if (done.length === 0) throw new AfterimageError('GROUP_UNKNOWN', 'there is no group to be scrubbed');
  stdout.write(isJson ? jsonLine({ scrubbed: jsonOf(done) }) : renderScrubbed(done, painter(stdout, env)));
  if (done.some(({ damaged }) => damaged > 0n)) throw new Verdict(EXIT.damaged);
}

function show(share: ShareOfBytes, message: ScrubProgress): void {
  const { group, host, bytesDone, bytesTotal } = message;
  const what = { verb: 'scrubbing', subject: `${group} on ${host}`, stage: message.member };
  share.show({ ...what, fields: jsonOf(message) }, bytesDone, bytesTotal);
}

function renderScrubbed(done: readonly ScrubProgress[], paint: Paint): string {
  const rows = done.map(({ group, host, bytesTotal, damaged }): (string | Cell)[] => [
    group,
    host,
    formatBytes(bytesTotal),
    damaged === 0n ? '0' : { text: damaged.toString(), colour: 'red' },
  ]);
  const hurt = [...new Set(done.filter(({ damaged }) => damaged > 0n).map(({ group }) => group))];
  const notes = hurt.map(
    (group) =>
      `${printable(group)}: \`afterimage timeline ${printable(group)}\` shows which instants that is\n`,
  );
  const bare = done
    .filter(({ unsummed }) => unsummed > 0n)
    .map(
      ({ group, host, unsummed }) =>
        `${printable(group)} on ${printable(host)}: ${unsummed} blocks had lost their checksum and have a new one; ` +
        `\`afterimage verify ${printable(group)}\` compares them with their source\n`,
    );
  return renderTable(COLUMNS, rows, paint) + notes.join('') + bare.join('');
}
