/** `afterimage audit`: who did what. */
import path from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import {
  agentControlService,
  receiverControlService,
  type AuditMessage,
  type AuditVerdictInfo,
} from '../proto/control.js';
import { AfterimageError, EXIT } from '../proto/errors.js';
import type { AuditLine } from '../service/audit_log.js';
import type { RpcClient } from '../service/rpc.js';
import { receiverElseAgent, withDaemon, withSocket, hasCode } from './daemon_client.js';
import { jsonLine, jsonOf, type Json } from './json.js';
import { examples, namedControl, receiverVerb, type ClientOptions } from './option.js';
import { formatCount } from './quantity.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, renderTable, type Cell, type Column } from './table.js';
import { Verdict } from './verdict.js';

const COLUMNS: readonly Column[] = [
  { heading: 'TIME', align: 'left' },
  { heading: 'WHO', align: 'left' },
  { heading: 'WHAT', align: 'left' },
  { heading: 'TO', align: 'left' },
  { heading: 'OUTCOME', align: 'left' },
];
const LAST_DEFAULT = 100;

interface AuditOptions extends ClientOptions {
  verify?: true;
  expect?: string;
  last: number;
  file?: string;
}
interface Audit {
  entries: AuditLine[];
  verdict: AuditVerdictInfo;
}

export function addAudit(program: Command, surroundings: Surroundings): void {
  const audit = receiverVerb(
    program,
    'audit',
    'show who changed what, and whether the record of it is whole: of the receiver, or of the agent where there is none',
    'admin',
  )
    .option('--verify', 'say only whether a line was changed, moved or removed, and the hash of the last one')
    .option(
      '--expect <hash>',
      'with the hash of a line that was noted earlier, which must be there',
      hashArgument,
    )
    .option('--last <count>', 'show so many', countArgument, LAST_DEFAULT)
    .option('--file <path>', 'read this file instead of asking a daemon: a copy, say')
    .action((options: AuditOptions) => run(options, surroundings));
  examples(audit, [
    ['afterimage audit --last 20', 'the latest ones'],
    ['afterimage audit --verify', 'note the hash where nobody of this machine can change it, and next time:'],
    ['afterimage audit --verify --expect 9f86d081…', 'what was there then is still there'],
    ['afterimage audit --file /mnt/backup/store/audit.log --verify', 'of a copy'],
  ]);
}

async function run(options: AuditOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stderr, env } = surroundings;
  const { entries, verdict } = await read(options, surroundings);
  const isBroken = verdict.faults.length > 0;
  if (options.json === true) {
    const whole = jsonOf(verdict) as { [key: string]: Json };
    stdout.write(jsonLine({ ...whole, ...(options.verify === true ? {} : { entries: jsonOf(entries) }) }));
  } else {
    if (options.verify !== true) stdout.write(renderTable(COLUMNS, entries.map(row), painter(stdout, env)));
    const told = options.verify === true ? stdout : stderr;
    for (const { line, what } of verdict.faults) told.write(`${printable(`line ${line}: ${what}`)}\n`);
    if (options.verify === true && !isBroken)
      stdout.write(
        `${formatCount(Number(verdict.lines), 'line')}, all as they were written; the last one has the hash\n${verdict.hash}\n`,
      );
  }
  if (!isBroken) return;
  if (options.verify === true) throw new Verdict(EXIT.damaged);
  throw new AfterimageError(
    'AUDIT_BROKEN',
    `${formatCount(verdict.faults.length, 'line')} of the audit log cannot be trusted`,
  );
}

async function read(options: AuditOptions, surroundings: Surroundings): Promise<Audit> {
  const { cwd, stop } = surroundings;
  const request = { verdictOnly: options.verify === true, expected: options.expect ?? '' };
  if (options.file !== undefined) {
    const { tellAuditLog } = await import('../service/audit_log.js');
    return collect(tellAuditLog(path.resolve(cwd, options.file), request), options.last);
  }
  const limits = { timeoutMs: null, signal: stop.drain };
  const ofReceiver = (client: RpcClient) =>
    collect(client.callStream(receiverControlService.audit, request, limits), options.last);
  const ofAgent = (client: RpcClient) =>
    collect(client.callStream(agentControlService.audit, request, limits), options.last);
  const named = options.receiver === undefined ? await namedControl(options, surroundings) : null;
  if (named !== null) {
    return withSocket(named, (client) =>
      receiverElseAgent(
        () => ofReceiver(client),
        () => ofAgent(client),
      ),
    );
  }
  try {
    return await withDaemon('receiver', options, surroundings, ofReceiver);
  } catch (thrown) {
    if (options.receiver !== undefined || !hasCode(thrown, 'DAEMON_UNREACHABLE')) throw thrown;
    return withDaemon('agent', options, surroundings, ofAgent);
  }
}

async function collect(messages: AsyncIterable<AuditMessage>, last: number): Promise<Audit> {
  let entries: AuditLine[] = [];
  let verdict: AuditVerdictInfo | null = null;
  for await (const message of messages) {
    entries = [...entries, ...message.lines.map((line) => JSON.parse(line) as AuditLine)].slice(-last);
    verdict = message.verdict;
  }
  if (verdict === null) throw new AfterimageError('MESSAGE_INVALID', 'the audit log came without its end');
  return { entries, verdict };
}

function row({ time, who, what, with: told, outcome }: AuditLine): (string | Cell)[] {
  const to = Object.entries(told)
    .filter(([, value]) => value === true || (value !== false && value.length > 0))
    .map(([key, value]) => (value === true ? key : `${key}=${String(value)}`));
  const isGood = outcome === 'ok' || outcome === 'begun';
  return [time, who, what, to.join(' '), { text: outcome, colour: isGood ? 'plain' : 'red' }];
}

function hashArgument(text: string): string {
  if (!/^[0-9a-f]{64}$/i.test(text)) throw new InvalidArgumentError('Expected 64 hexadecimal digits.');
  return text.toLowerCase();
}
function countArgument(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 1_000_000)
    throw new InvalidArgumentError('Expected a number from 1 to 1000000.');
  return count;
}
