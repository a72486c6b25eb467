/** `afterimage timeline GROUP`: what can be recovered, and what cannot. */
import type { Command } from 'commander';
import { receiverControlService, type PointInfo, type Timeline } from '../proto/control.js';
import { formatTime } from '../proto/time.js';
import { checkpointTable } from './checkpoint.js';
import { ANSWER_MS_MAX, withDaemon } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { type ClientOptions, examples, nameArgument, receiverVerb } from './option.js';
import { formatTimeOr } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, stateCell, type Column, type Paint } from './table.js';

const COLUMNS: readonly Column[] = [
  { heading: 'GRADE', align: 'left' },
  { heading: 'HOST', align: 'left' },
  { heading: 'GENERATION', align: 'right' },
  { heading: 'FIRST LSN', align: 'right' },
  { heading: 'LAST LSN', align: 'right' },
  { heading: 'FROM', align: 'left' },
  { heading: 'TO', align: 'left' },
  { heading: 'REASON', align: 'left' },
];

interface TimelineOptions extends ClientOptions {
  at?: string;
}

export function addTimeline(program: Command, surroundings: Surroundings): void {
  const timeline = receiverVerb(
    program,
    'timeline',
    'show the recoverable window of a group, its grades and its checkpoints',
    'viewer',
  )
    .argument('<group>', 'protection group', nameArgument)
    .option('--at <point>', 'show the one point that this names, without opening it')
    .action((group: string, options: TimelineOptions) =>
      options.at === undefined
        ? showTimeline(group, options, surroundings)
        : showPoint(group, options.at, options, surroundings),
    );
  examples(timeline, [
    ['afterimage timeline db', 'the window of the group db; its times can be pasted into --at'],
    ['afterimage timeline db --at -90s', 'which LSN, time and grade that is'],
    ['afterimage timeline db --json', 'the same for a program'],
  ]);
}

async function showTimeline(
  group: string,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: stop.drain };
  const timeline = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(receiverControlService.timeline, { group }, limits),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(timeline)));
  else stdout.write(renderTimeline(timeline, painter(stdout, env)));
}

async function showPoint(
  group: string,
  at: string,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: stop.drain };
  const point = await withDaemon('receiver', options, surroundings, (client) =>
    client.callUnary(receiverControlService.point, { group, point: at }, limits),
  );
  if (options.json === true) stdout.write(jsonLine(jsonOf(point)));
  else stdout.write(renderPoint(point, painter(stdout, env)));
}

function renderPoint({ group, lsn, timeNs, grade }: PointInfo, paint: Paint): string {
  const { text, colour } = stateCell(grade);
  return `${printable(group)} at lsn:${lsn}, ${formatTime(timeNs)}: ${paint(printable(text), colour)}\n`;
}

export function renderTimeline({ group, spans, checkpoints }: Timeline, paint: Paint): string {
  if (spans.length === 0) return `${group} has no history yet.\n`;
  const rows = spans.map((span) => [
    stateCell(span.grade),
    span.host,
    span.generation.toString(),
    span.firstLsn === 0n ? '-' : span.firstLsn.toString(),
    span.lastLsn === 0n ? '-' : span.lastLsn.toString(),
    formatTimeOr(span.beginNs, '-'),
    formatTimeOr(span.endNs, 'now'),
    span.reason,
  ]);
  const table = renderTable(COLUMNS, rows, paint);
  return checkpoints.length === 0 ? table : `${table}\n${checkpointTable(checkpoints, paint)}`;
}
