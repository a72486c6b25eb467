/** `afterimage receiver fsck`: a store that no receiver runs on, checked, explained and, if asked for, repaired. */
import path from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { AfterimageError, EXIT } from '../proto/errors.js';
import type { Finding, Severity } from '../receiver/fsck/finding.js';
import type { CheckProgress, StoreReport, Verdict as StoreVerdict } from '../receiver/fsck/store_check.js';
import { byteSize } from '../service/config.js';
import { jsonLine, jsonOf } from './json.js';
import { configFile, examples, jsonOption } from './option.js';
import { formatBytes, formatCount } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import type { Surroundings } from './surroundings.js';
import { painter, printable, type Colour, type Paint } from './table.js';
import { Verdict } from './verdict.js';

const STATUS: Readonly<Record<StoreVerdict, number>> = {
  sound: EXIT.ok,
  repaired: EXIT.repaired,
  repairable: EXIT.repairable,
  unchecked: EXIT.unchecked,
  damaged: EXIT.damaged,
};
/** The worst first. */
const SEVERITIES: readonly Severity[] = ['damage', 'unchecked', 'repairable', 'note'];
const COLOURS: Readonly<Record<Severity, Colour>> = {
  damage: 'red',
  unchecked: 'red',
  repairable: 'yellow',
  note: 'plain',
};
const RATE_MIN = 1024n;
const RATE_MAX = 1n << 50n;

interface FsckOptions {
  config?: string;
  repair?: true;
  yes?: true;
  rate?: bigint;
  json?: true;
}

export function addFsck(receiver: Command, surroundings: Surroundings): void {
  const fsck = receiver
    .command('fsck')
    .description(
      'check a store that no receiver runs on, and explain what is found; writes nothing without --repair',
    )
    .argument('[store]', 'its directory; otherwise the one that the configuration names')
    .option(
      '--config <file>',
      'configuration that names the store (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/receiver.toml)',
    )
    .option('--repair', 'set right what can be without losing history; record what is lost')
    .option('--yes', 'repair without asking')
    .option('--rate <bytes>', 'read at most so much a second, such as 100MiB', rateArgument)
    .addOption(jsonOption())
    .action((store: string | undefined, options: FsckOptions) => run(store, options, surroundings));
  examples(fsck, [
    ['afterimage receiver fsck', 'the store that /etc/afterimage/receiver.toml names'],
    ['afterimage receiver fsck --repair /var/lib/afterimage/store', 'another, and repair it'],
  ]);
}

/** Bytes per second. */
export function rateArgument(text: string): bigint {
  const parsed = byteSize(RATE_MIN, RATE_MAX).safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError('Expected a size such as 100MiB.');
  return parsed.data;
}

async function run(
  store: string | undefined,
  options: FsckOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, cwd, stdout, stderr, env, stop } = surroundings;
  const isJson = options.json === true;
  const share = new ShareOfBytes(stderr, isJson);
  const report = await daemons
    .checkStore({
      store:
        store === undefined
          ? await daemons.storeOf(configFile('receiver', options.config, surroundings))
          : path.resolve(cwd, store),
      rate: options.rate ?? null,
      progress: (progress) => show(share, progress),
      confirm: confirmation(options, surroundings, share),
      signal: stop.drain,
    })
    .finally(() => share.end());
  stdout.write(isJson ? jsonLine(jsonOf(report)) : renderReport(report, painter(stdout, env)));
  const status = STATUS[report.verdict];
  if (status !== EXIT.ok) throw new Verdict(status);
}

/** Errors: USAGE when nobody could be asked. */
function confirmation(
  { repair, yes, json }: FsckOptions,
  { ask, stdout, env }: Surroundings,
  share: ShareOfBytes,
): ((report: StoreReport) => Promise<boolean>) | null {
  if (repair !== true) return null;
  if (yes === true) return () => Promise.resolve(true);
  if (ask === null || json === true)
    throw new AfterimageError('USAGE', 'nobody can be asked here: --repair needs --yes');
  return (report) => {
    share.end();
    stdout.write(renderReport(report, painter(stdout, env)));
    return ask('Repair it?');
  };
}

function show(share: ShareOfBytes, progress: CheckProgress): void {
  const { file, bytesDone, bytesTotal } = progress;
  const what = { verb: 'checking', subject: path.basename(file), stage: '', fields: jsonOf(progress) };
  share.show(what, bytesDone, bytesTotal);
}

export function renderReport(report: StoreReport, paint: Paint): string {
  const { store, verdict, segments, bytesRead, findings } = report;
  const read = `${formatCount(segments, 'segment')}, ${formatBytes(bytesRead)} read`;
  const colour: Colour =
    verdict === 'sound' || verdict === 'repaired' ? 'green' : verdict === 'damaged' ? 'red' : 'yellow';
  const head = `${printable(store)}: ${paint(verdict, colour)} (${read})\n`;
  return head + SEVERITIES.map((severity) => renderSeverity(severity, findings, paint)).join('');
}

/** One block a code: what it means and what to do is the same for all of its files. */
function renderSeverity(severity: Severity, findings: readonly Finding[], paint: Paint): string {
  const byCode = new Map<string, Finding[]>();
  for (const one of findings) {
    if (one.severity === severity) byCode.set(one.code, [...(byCode.get(one.code) ?? []), one]);
  }
  return [...byCode.values()].map((same) => renderCode(same, paint)).join('');
}

function renderCode(same: readonly Finding[], paint: Paint): string {
  const [first] = same;
  if (first === undefined) return '';
  const lines = same.map(({ group, host, subject, message, repaired, severity }) => {
    const whose = group === '' ? '' : `${group} on ${host}: `;
    const done = repaired ? (severity === 'damage' ? ' [recorded]' : ' [repaired]') : '';
    return `  ${printable(`${whose}${subject}: ${message}`)}${done}\n`;
  });
  const isDone = same.every(({ repaired }) => repaired);
  const title = paint(`${first.severity} ${first.code}`, COLOURS[first.severity]);
  return `\n${title}\n${lines.join('')}  ${first.meaning}\n${isDone ? '' : `  → ${first.remedy}\n`}`;
}
