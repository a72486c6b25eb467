import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { formatTime } from '../proto/time.js';
import { isName } from '../service/config.js';
import { probeUnix } from '../service/listen.js';
import { ANSWER_MS_MAX, hasCode, isAway, receiverElseAgent, withDaemon, withSocket, WORK_MS_MAX, } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, controlSocket, examples, nameArgument, namedControl, } from './option.js';
import { painter, printable, renderTable, stateCell } from './table.js';
const COLUMNS = [
    { heading: 'GROUP', align: 'left' },
    { heading: 'CHECKPOINT', align: 'left' },
    { heading: 'LSN', align: 'right' },
    { heading: 'TIME', align: 'left' },
    { heading: 'CONSISTENCY', align: 'left' },
    { heading: 'GRADE', align: 'left' },
    { heading: 'PINNED', align: 'left' },
];
export function addCheckpoint(program, surroundings) {
    const checkpoint = program
        .command('checkpoint')
        .description('name a point of a group, list and keep named points')
        .helpCommand(false);
    const create = clientVerb(checkpoint, 'create', 'name the present instant; returns when that point is durable')
        .argument('<group>', 'protection group', nameArgument)
        .argument('<name>', 'name of the checkpoint, new in the group', checkpointArgument)
        .option('--pin', 'keep it, and all history behind it, until it is unpinned (asks the receiver)')
        .action((group, name, options) => createCheckpoint(group, name, options, surroundings));
    examples(create, [
        ['afterimage checkpoint create db before-upgrade', 'mark the instant before something risky'],
        ['afterimage checkpoint create db golden --pin', 'one that retention does not take'],
        ['afterimage export db --at checkpoint:before-upgrade', 'go back to it'],
    ]);
    const list = clientVerb(checkpoint, 'list', 'list named points')
        .argument('[group]', 'only those of this group', nameArgument)
        .action((group, options) => listCheckpoints(group ?? '', options, surroundings));
    examples(list, [['afterimage checkpoint list db', 'the checkpoints of the group db']]);
    addPin(checkpoint, 'pin', 'keep a named point, and all history behind it, from retention', surroundings);
    addPin(checkpoint, 'unpin', 'let retention have a named point when it is due', surroundings);
    const remove = clientVerb(checkpoint, 'delete', 'forget a name; the point stays for as long as it is held')
        .argument('<group>', 'protection group', nameArgument)
        .argument('<name>', 'name of the checkpoint', checkpointArgument)
        .action((group, name, options) => deleteCheckpoint(group, name, options, surroundings));
    examples(remove, [['afterimage checkpoint delete db before-upgrade', 'the name can be used again']]);
}
function addPin(checkpoint, verb, description, surroundings) {
    const pin = clientVerb(checkpoint, verb, description)
        .argument('<group>', 'protection group', nameArgument)
        .argument('<name>', 'name of the checkpoint', checkpointArgument)
        .action(async (group, name, options) => {
        const request = { group, name, pinned: verb === 'pin' };
        const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
        const made = await withDaemon('receiver', options, surroundings, (client) => client.callUnary(receiverControlService.checkpointPin, request, limits));
        tell(made, options, surroundings);
    });
    examples(pin, [[`afterimage checkpoint ${verb} db before-upgrade`, description]]);
}
async function deleteCheckpoint(group, name, options, surroundings) {
    const { stdout, stop } = surroundings;
    const limits = { timeoutMs: ANSWER_MS_MAX, signal: stop.drain };
    await withDaemon('receiver', options, surroundings, (client) => client.callUnary(receiverControlService.checkpointDelete, { group, name }, limits));
    if (options.json === true)
        stdout.write(jsonLine({ group, name, deleted: true }));
    else
        stdout.write(`${printable(`checkpoint ${name} of ${group} is forgotten`)}\n`);
}
async function createCheckpoint(group, name, options, surroundings) {
    const { stop } = surroundings;
    const pin = options.pin ?? false;
    const request = { group, name, pin };
    const limits = { timeoutMs: WORK_MS_MAX, signal: stop.drain };
    const askReceiver = (client) => client.callUnary(receiverControlService.checkpointCreate, request, limits);
    const askAgent = (client) => client.callUnary(agentControlService.checkpointCreate, request, limits);
    if (pin) {
        tell(await withDaemon('receiver', options, surroundings, askReceiver), options, surroundings);
        return;
    }
    const named = await namedControl(options, surroundings);
    const made = named === null
        ? await createHere(askReceiver, askAgent, options, surroundings)
        : await withSocket(named, (client) => receiverElseAgent(() => askReceiver(client), () => askAgent(client)));
    tell(made, options, surroundings);
}
function tell(made, { json }, { stdout }) {
    stdout.write(json === true ? jsonLine(jsonOf(made)) : `${describe(made)}\n`);
}
/**
 * Either daemon can make one. The receiver is asked if it is here; the agent where it is not, and where it has nothing to
 * do with the group or with its agent: this may be a protected host that is another's recovery site. Errors:
 * DAEMON_UNREACHABLE when neither daemon is here.
 */
async function createHere(askReceiver, askAgent, options, surroundings) {
    const receiver = await controlSocket('receiver', options, surroundings);
    const agent = await controlSocket('agent', options, surroundings);
    if (!(await isHere(receiver))) {
        if (await isHere(agent))
            return withDaemon('agent', options, surroundings, askAgent);
        const tried = `neither a receiver at ${receiver} nor an agent at ${agent}`;
        throw new AfterimageError('DAEMON_UNREACHABLE', tried);
    }
    try {
        return await withDaemon('receiver', options, surroundings, askReceiver);
    }
    catch (refusal) {
        if (!hasCode(refusal, 'GROUP_UNKNOWN', 'AGENT_AWAY') || !(await isHere(agent)))
            throw refusal;
        try {
            return await withDaemon('agent', options, surroundings, askAgent);
        }
        catch (thrown) {
            // Not the agent's business either: the receiver's answer was the better one.
            throw hasCode(thrown, 'GROUP_UNKNOWN') ? refusal : thrown;
        }
    }
}
/** Errors: PERMISSION_DENIED. */
async function isHere(socket) {
    try {
        await probeUnix(socket);
        return true;
    }
    catch (thrown) {
        if (!isAway(thrown))
            throw thrown;
        return false;
    }
}
async function listCheckpoints(group, options, surroundings) {
    const { stdout, env, stop } = surroundings;
    const list = await withDaemon('receiver', options, surroundings, (client) => client.callUnary(receiverControlService.checkpointList, { group }, { timeoutMs: ANSWER_MS_MAX, signal: stop.drain }));
    if (options.json === true)
        stdout.write(jsonLine(jsonOf(list)));
    else if (list.checkpoints.length === 0)
        stdout.write('There are no checkpoints.\n');
    else
        stdout.write(checkpointTable(list.checkpoints, painter(stdout, env)));
}
export function checkpointTable(checkpoints, paint) {
    const rows = checkpoints.map(({ group, name, lsn, timeNs, consistency, grade, pinned }) => [
        group,
        name,
        lsn.toString(),
        formatTime(timeNs),
        consistency,
        stateCell(grade),
        pinned ? 'yes' : '',
    ]);
    return renderTable(COLUMNS, rows, paint);
}
function describe({ group, name, lsn, timeNs, consistency, pinned }) {
    return printable(`checkpoint ${name} of ${group}: lsn:${lsn}, ${formatTime(timeNs)}, ${consistency}-consistent, durable${pinned ? ', pinned' : ''}`);
}
/** Errors: CHECKPOINT_INVALID. */
function checkpointArgument(text) {
    if (!isName(text))
        throw new AfterimageError('CHECKPOINT_INVALID', `${JSON.stringify(text)} is not a name`);
    return text;
}
//# sourceMappingURL=checkpoint.js.map