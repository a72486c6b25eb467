/** `afterimage receiver fsck`: a store that no receiver runs on, checked, explained and, if asked for, repaired. */
import path from 'node:path';
import { InvalidArgumentError } from 'commander';
import { AfterimageError, EXIT } from '../proto/errors.js';
import { byteSize } from '../service/config.js';
import { jsonLine, jsonOf } from './json.js';
import { configFile, examples, jsonOption } from './option.js';
import { formatBytes, formatCount } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import { painter, printable } from './table.js';
import { Verdict } from './verdict.js';
const STATUS = {
    sound: EXIT.ok,
    repaired: EXIT.repaired,
    repairable: EXIT.repairable,
    unchecked: EXIT.unchecked,
    damaged: EXIT.damaged,
};
/** The worst first. */
const SEVERITIES = ['damage', 'unchecked', 'repairable', 'note'];
const COLOURS = {
    damage: 'red',
    unchecked: 'red',
    repairable: 'yellow',
    note: 'plain',
};
const RATE_MIN = 1024n;
const RATE_MAX = 1n << 50n;
export function addFsck(receiver, surroundings) {
    const fsck = receiver
        .command('fsck')
        .description('check a store that no receiver runs on, and explain what is found; writes nothing without --repair')
        .argument('[store]', 'its directory; otherwise the one that the configuration names')
        .option('--config <file>', 'configuration that names the store (environment: AFTERIMAGE_CONFIG; default: /etc/afterimage/receiver.toml)')
        .option('--repair', 'set right what can be without losing history; record what is lost')
        .option('--yes', 'repair without asking')
        .option('--rate <bytes>', 'read at most so much a second, such as 100MiB', rateArgument)
        .addOption(jsonOption())
        .action((store, options) => run(store, options, surroundings));
    examples(fsck, [
        ['afterimage receiver fsck', 'the store that /etc/afterimage/receiver.toml names'],
        ['afterimage receiver fsck --repair /var/lib/afterimage/store', 'another, and repair it'],
    ]);
}
/** Bytes per second. */
export function rateArgument(text) {
    const parsed = byteSize(RATE_MIN, RATE_MAX).safeParse(text);
    if (!parsed.success)
        throw new InvalidArgumentError('Expected a size such as 100MiB.');
    return parsed.data;
}
async function run(store, options, surroundings) {
    const { daemons, cwd, stdout, stderr, env, stop } = surroundings;
    const isJson = options.json === true;
    const share = new ShareOfBytes(stderr, isJson);
    const report = await daemons
        .checkStore({
        store: store === undefined
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
    if (status !== EXIT.ok)
        throw new Verdict(status);
}
/** Errors: USAGE when nobody could be asked. */
function confirmation({ repair, yes, json }, { ask, stdout, env }, share) {
    if (repair !== true)
        return null;
    if (yes === true)
        return () => Promise.resolve(true);
    if (ask === null || json === true)
        throw new AfterimageError('USAGE', 'nobody can be asked here: --repair needs --yes');
    return (report) => {
        share.end();
        stdout.write(renderReport(report, painter(stdout, env)));
        return ask('Repair it?');
    };
}
function show(share, progress) {
    const { file, bytesDone, bytesTotal } = progress;
    const what = { verb: 'checking', subject: path.basename(file), stage: '', fields: jsonOf(progress) };
    share.show(what, bytesDone, bytesTotal);
}
export function renderReport(report, paint) {
    const { store, verdict, segments, bytesRead, findings } = report;
    const read = `${formatCount(segments, 'segment')}, ${formatBytes(bytesRead)} read`;
    const colour = verdict === 'sound' || verdict === 'repaired' ? 'green' : verdict === 'damaged' ? 'red' : 'yellow';
    const head = `${printable(store)}: ${paint(verdict, colour)} (${read})\n`;
    return head + SEVERITIES.map((severity) => renderSeverity(severity, findings, paint)).join('');
}
/** One block a code: what it means and what to do is the same for all of its files. */
function renderSeverity(severity, findings, paint) {
    const byCode = new Map();
    for (const one of findings) {
        if (one.severity === severity)
            byCode.set(one.code, [...(byCode.get(one.code) ?? []), one]);
    }
    return [...byCode.values()].map((same) => renderCode(same, paint)).join('');
}
function renderCode(same, paint) {
    const [first] = same;
    if (first === undefined)
        return '';
    const lines = same.map(({ group, host, subject, message, repaired, severity }) => {
        const whose = group === '' ? '' : `${group} on ${host}: `;
        const done = repaired ? (severity === 'damage' ? ' [recorded]' : ' [repaired]') : '';
        return `  ${printable(`${whose}${subject}: ${message}`)}${done}\n`;
    });
    const isDone = same.every(({ repaired }) => repaired);
    const title = paint(`${first.severity} ${first.code}`, COLOURS[first.severity]);
    return `\n${title}\n${lines.join('')}  ${first.meaning}\n${isDone ? '' : `  → ${first.remedy}\n`}`;
}
//# sourceMappingURL=fsck.js.map