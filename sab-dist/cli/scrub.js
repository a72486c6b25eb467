import { receiverControlService } from '../proto/control.js';
import { AfterimageError, EXIT } from '../proto/errors.js';
import { withDaemon } from './daemon_client.js';
import { rateArgument } from './fsck.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, examples, nameArgument } from './option.js';
import { formatBytes } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import { painter, printable, renderTable } from './table.js';
import { Verdict } from './verdict.js';
const COLUMNS = [
    { heading: 'GROUP', align: 'left' },
    { heading: 'HOST', align: 'left' },
    { heading: 'READ', align: 'right' },
    { heading: 'DAMAGED', align: 'right' },
];
export function addScrub(receiver, surroundings) {
    const scrub = clientVerb(receiver, 'scrub', 'read journals and bases again in full, and record what is damaged; everything goes on meanwhile')
        .argument('[group]', 'one group; otherwise all of them', nameArgument)
        .option('--rate <bytes>', 'read at most so much a second; otherwise as configured', rateArgument)
        .action((group, options) => run(group ?? '', options, surroundings));
    examples(scrub, [
        ['afterimage receiver scrub', 'every group'],
        ['afterimage receiver scrub shop --rate 200MiB', 'one, faster than usual'],
    ]);
}
async function run(group, options, surroundings) {
    const { stdout, stderr, env, stop } = surroundings;
    const isJson = options.json === true;
    const share = new ShareOfBytes(stderr, isJson);
    const done = [];
    await withDaemon('receiver', options, surroundings, async (client) => {
        const request = { group, rateMax: options.rate ?? 0n };
        const limits = { timeoutMs: null, signal: stop.drain };
        for await (const message of client.callStream(receiverControlService.scrub, request, limits)) {
            show(share, message);
            if (message.phase === 'done')
                done.push(message);
        }
    }).finally(() => share.end());
    if (done.length === 0)
        throw new AfterimageError('GROUP_UNKNOWN', 'there is no group to be scrubbed');
    stdout.write(isJson ? jsonLine({ scrubbed: jsonOf(done) }) : renderScrubbed(done, painter(stdout, env)));
    if (done.some(({ damaged }) => damaged > 0n))
        throw new Verdict(EXIT.damaged);
}
function show(share, message) {
    const { group, host, bytesDone, bytesTotal } = message;
    const what = { verb: 'scrubbing', subject: `${group} on ${host}`, stage: message.member };
    share.show({ ...what, fields: jsonOf(message) }, bytesDone, bytesTotal);
}
function renderScrubbed(done, paint) {
    const rows = done.map(({ group, host, bytesTotal, damaged }) => [
        group,
        host,
        formatBytes(bytesTotal),
        damaged === 0n ? '0' : { text: damaged.toString(), colour: 'red' },
    ]);
    const hurt = [...new Set(done.filter(({ damaged }) => damaged > 0n).map(({ group }) => group))];
    const notes = hurt.map((group) => `${printable(group)}: \`afterimage timeline ${printable(group)}\` shows which instants that is\n`);
    return renderTable(COLUMNS, rows, paint) + notes.join('');
}
//# sourceMappingURL=scrub.js.map