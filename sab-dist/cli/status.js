import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { ANSWER_MS_MAX, hasCode, isAway, receiverElseAgent, withDaemon, withSocket, } from './daemon_client.js';
import { renderFailure, reportFailure } from './failure.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, examples, namedControl } from './option.js';
import { renderStatus } from './status_view.js';
import { painter } from './table.js';
const REFRESH_MS = 1_000;
const CURSOR_HOME = '\x1b[H';
const CLEAR_TO_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const CLEAR_SCREEN = '\x1b[2J';
export function addStatus(program, surroundings) {
    const status = clientVerb(program, 'status', 'show agent, receiver, groups and volumes')
        .option('--watch', 'refresh every second until Ctrl-C')
        .action((options) => (options.watch === true ? watch : once)(options, surroundings));
    examples(status, [
        ['afterimage status', 'whatever daemons run on this machine'],
        ['afterimage status --watch', 'the same, refreshed in place'],
        ['afterimage status --json --watch', 'one JSON object per line and second'],
    ]);
}
/** Shows what answered. Errors: that of a daemon which is here and did not. */
async function once(options, surroundings) {
    const answer = await ask(options, surroundings);
    const [first, ...others] = isAnswered(answer) ? failures(answer) : refusals(answer);
    if (isAnswered(answer))
        surroundings.stdout.write(rendered(answer, options, surroundings));
    if (first === undefined)
        return;
    for (const other of others)
        reportFailure(other, options.json === true, surroundings);
    throw first;
}
/**
 * Goes on while the daemons are away or stuck: they may be restarting. Ends without an error, since Ctrl-C is its only
 * end, unless nothing answers and waiting cannot help.
 */
async function watch(options, surroundings) {
    const { stdout, stop, now } = surroundings;
    const isJson = options.json === true;
    const isRedrawn = stdout.isTerminal && !isJson;
    if (isRedrawn)
        stdout.write(CLEAR_SCREEN);
    while (!stop.drain.aborted) {
        const begun = now();
        const answer = await ask(options, surroundings);
        if (stop.drain.aborted)
            return;
        const hopeless = isAnswered(answer) ? undefined : refusals(answer).find(({ retryable }) => !retryable);
        if (hopeless !== undefined)
            throw hopeless;
        const text = rendered(answer, options, surroundings) + (isJson ? '' : excuses(answer, surroundings));
        if (isRedrawn)
            stdout.write(CURSOR_HOME + text.replaceAll('\n', `${CLEAR_TO_LINE_END}\n`) + CLEAR_BELOW);
        else
            stdout.write(isJson ? text : `${text}\n`);
        await surroundings.sleep(Math.max(0, REFRESH_MS - (now() - begun)), stop.drain);
    }
}
function isAnswered({ agent, receiver }) {
    return agent !== null || receiver !== null;
}
function errorsOf({ agentError, receiverError }) {
    return [...new Set([agentError, receiverError])].filter((error) => error !== null);
}
/** The errors of daemons that are here: most machines have only one of the two. */
function failures(answer) {
    const here = errorsOf(answer).filter((error) => !isAway(error));
    const interrupted = here.find((error) => hasCode(error, 'INTERRUPTED'));
    return interrupted === undefined ? here : [interrupted];
}
/** Why nothing answered. */
function refusals(answer) {
    const here = failures(answer);
    if (here.length > 0)
        return here;
    const away = errorsOf(answer);
    if (away.length < 2)
        return away;
    const tried = away.map(({ message }) => message).join('; ');
    return [new AfterimageError('DAEMON_UNREACHABLE', `no daemon answers here: ${tried}`)];
}
function excuses(answer, { stdout, env }) {
    const errors = isAnswered(answer) ? failures(answer) : refusals(answer);
    return errors.map((error) => renderFailure(error, painter(stdout, env))).join('');
}
function rendered(answer, { json }, { stdout, env, now }) {
    if (json !== true)
        return renderStatus(answer, painter(stdout, env));
    return jsonLine({
        time: new Date(now()).toISOString(),
        agent: jsonOf(answer.agent),
        agentError: errorFields(answer.agentError),
        receiver: jsonOf(answer.receiver),
        receiverError: errorFields(answer.receiverError),
    });
}
function errorFields(error) {
    return error === null ? null : { code: error.code, message: error.message, hint: error.hint };
}
/** Errors: INTERRUPTED, those of the configuration that names a socket, and of a socket that was named. */
async function ask(options, surroundings) {
    const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
    const agentStatus = (client) => client.callUnary(agentControlService.status, {}, limits);
    const receiverStatus = (client) => client.callUnary(receiverControlService.status, {}, limits);
    const named = await namedControl(options, surroundings);
    if (named !== null) {
        const none = { agent: null, receiver: null, agentError: null, receiverError: null };
        const answer = await orError(withSocket(named, (client) => receiverElseAgent(async () => ({ ...none, receiver: await receiverStatus(client) }), async () => ({ ...none, agent: await agentStatus(client) }))));
        // Nobody knows whose error it is.
        if (answer instanceof AfterimageError)
            return { ...none, agentError: answer, receiverError: answer };
        return answer;
    }
    const [agent, receiver] = await Promise.all([
        orError(withDaemon('agent', options, surroundings, agentStatus)),
        orError(withDaemon('receiver', options, surroundings, receiverStatus)),
    ]);
    const isAgent = !(agent instanceof AfterimageError);
    const isReceiver = !(receiver instanceof AfterimageError);
    return {
        agent: isAgent ? agent : null,
        agentError: isAgent ? null : agent,
        receiver: isReceiver ? receiver : null,
        receiverError: isReceiver ? null : receiver,
    };
}
/** A failed call as a value. Defects stay thrown. */
async function orError(answer) {
    try {
        return await answer;
    }
    catch (thrown) {
        if (!(thrown instanceof AfterimageError))
            throw thrown;
        return thrown;
    }
}
//# sourceMappingURL=status.js.map