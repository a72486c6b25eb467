/** The daemons' status as tables. */
import type { AgentStatus, GroupStatus, ReceiverStatus } from '../proto/control.js';
import type { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { formatBytes, formatCount, formatDuration, formatRate, formatShare } from './quantity.js';
import { printable, renderTable, stateCell, type Cell, type Column, type Paint } from './table.js';

/** What answered; null is a daemon that did not, and its error says why. Without one it was not asked. */
export interface StatusAnswer {
  agent: AgentStatus | null;
  receiver: ReceiverStatus | null;
  agentError: AfterimageError | null;
  receiverError: AfterimageError | null;
}

const AGENT_COLUMNS: readonly Column[] = [
  { heading: 'GROUP/VOLUME', align: 'left' },
  { heading: 'STATE', align: 'left' },
  { heading: 'RPO LAG', align: 'right' },
  { heading: 'CAPTURED', align: 'right' },
  { heading: 'SHIPPED', align: 'right' },
  { heading: 'DURABLE', align: 'right' },
  { heading: 'RING', align: 'right' },
  { heading: 'THROUGHPUT', align: 'right' },
  { heading: 'WRITTEN', align: 'right' },
  { heading: 'DEVICE', align: 'left' },
];
const RECEIVER_COLUMNS: readonly Column[] = [
  { heading: 'GROUP/VOLUME', align: 'left' },
  { heading: 'HOST', align: 'left' },
  { heading: 'STATE', align: 'left' },
  { heading: 'RPO LAG', align: 'right' },
  { heading: 'DURABLE', align: 'right' },
  { heading: 'WINDOW', align: 'right' },
  { heading: 'FROM', align: 'left' },
  { heading: 'JOURNAL', align: 'right' },
  { heading: 'THROUGHPUT', align: 'right' },
  { heading: 'SIZE', align: 'right' },
];

type Row = (string | Cell)[];

export function renderStatus(
  { agent, receiver }: Pick<StatusAnswer, 'agent' | 'receiver'>,
  paint: Paint,
): string {
  const parts: string[] = [];
  if (agent !== null) parts.push(renderAgent(agent, paint));
  if (receiver !== null) parts.push(renderReceiver(receiver, paint));
  return parts.join('\n');
}

function renderAgent(agent: AgentStatus, paint: Paint): string {
  const link = agent.connected ? paint('connected', 'green') : paint('disconnected', 'red');
  const memory = `${formatBytes(agent.rssBytes)} of memory`;
  const head = `agent ${printable(agent.version)} on ${printable(agent.host)}, receiver ${printable(agent.receiver)} ${link}, ${memory}\n`;
  const rows = agent.groups.flatMap((group): Row[] => [
    [
      group.name,
      stateCell(group.state),
      formatDuration(group.rpoLagNs),
      group.capturedLsn.toString(),
      group.shippedLsn.toString(),
      group.durableLsn.toString(),
      formatShare(group.ringUsedBytes, group.ringBytes),
      formatRate(group.throughputBytesPerSecond),
      formatBytes(group.volumes.reduce((sum, volume) => sum + volume.writeBytes, 0n)),
      '',
    ],
    ...group.volumes.map((volume) => [
      `  ${volume.name}`,
      volumeState(volume),
      ...['', '', '', '', '', ''],
      formatBytes(volume.writeBytes),
      volume.device,
    ]),
  ]);
  return head + groupsTable(AGENT_COLUMNS, rows, agent.groups, paint);
}

function renderReceiver(receiver: ReceiverStatus, paint: Paint): string {
  const free = `${formatBytes(receiver.storeBytesFree)} free`;
  const exports = formatCount(Number(receiver.exports), 'export');
  const head = `receiver ${printable(receiver.version)} at ${printable(receiver.listen)}, store ${printable(receiver.store)} with ${free}, ${exports}\n`;
  const rows = receiver.groups.flatMap((group): Row[] => [
    [
      group.name,
      group.host,
      stateCell(group.state),
      formatDuration(group.rpoLagNs),
      group.durableLsn.toString(),
      ...windowCells(group),
      formatBytes(group.journalBytes),
      formatRate(group.throughputBytesPerSecond),
      formatBytes(group.volumes.reduce((sum, volume) => sum + volume.size, 0n)),
    ],
    ...group.volumes.map((volume) => [
      `  ${volume.name}`,
      '',
      volumeState(volume),
      ...['', '', '', '', '', ''],
      formatBytes(volume.size),
    ]),
  ]);
  return head + groupsTable(RECEIVER_COLUMNS, rows, receiver.groups, paint) + scrubLines(receiver, paint);
}

/** Only what is worth a line: a scrub under way, or what the last one found. */
function scrubLines({ scrubs }: ReceiverStatus, paint: Paint): string {
  return scrubs
    .map(({ group, host, bytesDone, bytesTotal, finishedNs, damaged, unsummed }) => {
      const whose = printable(`${group} on ${host}`);
      const found = [
        ...(damaged === 0n ? [] : [paint(`${damaged} damaged places found`, 'red')]),
        ...(unsummed === 0n ? [] : [`${unsummed} blocks had lost their checksum`]),
      ].join(', ');
      if (bytesTotal > 0n) {
        return `scrub of ${whose}: ${formatShare(bytesDone, bytesTotal)}${found === '' ? '' : `, ${found}`}\n`;
      }
      return found === '' ? '' : `scrub of ${whose}, ${formatTime(finishedNs)}: ${found}\n`;
    })
    .join('');
}

function groupsTable(
  columns: readonly Column[],
  rows: Row[],
  groups: readonly GroupStatus[],
  paint: Paint,
): string {
  if (groups.length === 0) return 'no groups\n';
  const notes = groups.flatMap(({ name, detail, retentionHeldBy, spoolUsedBytes, spoolBytes }) => [
    ...(spoolUsedBytes === 0n
      ? []
      : [
          `${name}: ${formatShare(spoolUsedBytes, spoolBytes)} of the spool, ${formatBytes(spoolBytes)}, in use`,
        ]),
    ...(detail === '' ? [] : [`${name}: ${detail}`]),
    ...(retentionHeldBy === '' ? [] : [`${name}: older history is not let go of: ${retentionHeldBy}`]),
  ]);
  return renderTable(columns, rows, paint) + notes.map((note) => `${printable(note)}\n`).join('');
}

/** "resync 40 %" while a volume is being copied. */
function volumeState({ state, syncBytesDone, syncBytesTotal }: GroupStatus['volumes'][number]): Cell {
  const cell = stateCell(state);
  const isSyncing = (state === 'initial-sync' || state === 'resync') && syncBytesTotal > 0n;
  return isSyncing ? { ...cell, text: `${state} ${formatShare(syncBytesDone, syncBytesTotal)}` } : cell;
}

/** Its length and its oldest instant; the timeline tells of what lies between. */
function windowCells({ windowBeginNs, windowEndNs }: GroupStatus): string[] {
  if (windowBeginNs === 0n) return ['none', ''];
  return [formatDuration(windowEndNs - windowBeginNs), formatTime(windowBeginNs)];
}
