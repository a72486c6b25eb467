/** `afterimage status`: how protection is doing, at both ends as far as they are here. */
import type { Command } from 'commander';
import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import type { RpcClient } from '../service/rpc.js';
import {
  ANSWER_MS_MAX,
  hasCode,
  isAway,
  receiverElseAgent,
  withDaemon,
  withSocket,
} from './daemon_client.js';
import { renderFailure, reportFailure } from './failure.js';
import { jsonLine, jsonOf, type Json } from './json.js';
import { type ClientOptions, examples, namedControl, receiverVerb, remoteReceiver } from './option.js';
import { renderStatus, type StatusAnswer } from './status_view.js';
import type { Surroundings } from './surroundings.js';
import { painter } from './table.js';

const REFRESH_MS = 1_000;
const CURSOR_HOME = '\x1b[H';
const CLEAR_TO_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const CLEAR_SCREEN = '\x1b[2J';

interface StatusOptions extends ClientOptions {
  watch?: true;
}

export function addStatus(program: Command, surroundings: Surroundings): void {
  const status = receiverVerb(program, 'status', 'show agent, receiver, groups and volumes', 'viewer')
    .option('--watch', 'refresh every second until Ctrl-C')
    .action((options: StatusOptions) => (options.watch === true ? watch : once)(options, surroundings));
  examples(status, [
    ['afterimage status', 'whatever daemons run on this machine'],
    ['afterimage status --watch', 'the same, refreshed in place'],
    ['afterimage status --json --watch', 'one JSON object per line and second'],
  ]);
}

/** Shows what answered. Errors: that of a daemon which is here and did not. */
async function once(options: StatusOptions, surroundings: Surroundings): Promise<void> {
  const answer = await ask(options, surroundings);
  const [first, ...others] = isAnswered(answer) ? failures(answer) : refusals(answer);
  if (isAnswered(answer)) surroundings.stdout.write(rendered(answer, options, surroundings));
  if (first === undefined) return;
  for (const other of others) reportFailure(other, options.json === true, surroundings);
  throw first;
}

/**
 * Goes on while the daemons are away or stuck: they may be restarting. Ends without an error, since Ctrl-C is its only
 * end, unless nothing answers and waiting cannot help.
 */
async function watch(options: StatusOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stop, now } = surroundings;
  const isJson = options.json === true;
  const isRedrawn = stdout.isTerminal && !isJson;
  if (isRedrawn) stdout.write(CLEAR_SCREEN);
  while (!stop.drain.aborted) {
    const begun = now();
    const answer = await ask(options, surroundings);
    if (stop.drain.aborted) return;
    const hopeless = isAnswered(answer) ? undefined : refusals(answer).find(({ retryable }) => !retryable);
    if (hopeless !== undefined) throw hopeless;
    const text = rendered(answer, options, surroundings) + (isJson ? '' : excuses(answer, surroundings));
    if (isRedrawn) stdout.write(CURSOR_HOME + text.replaceAll('\n', `${CLEAR_TO_LINE_END}\n`) + CLEAR_BELOW);
    else stdout.write(isJson ? text : `${text}\n`);
    await surroundings.sleep(Math.max(0, REFRESH_MS - (now() - begun)), stop.drain);
  }
}

function isAnswered({ agent, receiver }: StatusAnswer): boolean {
  return agent !== null || receiver !== null;
}

function errorsOf({ agentError, receiverError }: StatusAnswer): AfterimageError[] {
  return [...new Set([agentError, receiverError])].filter((error) => error !== null);
}

/** The errors of daemons that are here: most machines have only one of the two. */
function failures(answer: StatusAnswer): AfterimageError[] {
  const here = errorsOf(answer).filter((error) => !isAway(error));
  const interrupted = here.find((error) => hasCode(error, 'INTERRUPTED'));
  return interrupted === undefined ? here : [interrupted];
}

/** Why nothing answered. */
function refusals(answer: StatusAnswer): AfterimageError[] {
  const here = failures(answer);
  if (here.length > 0) return here;
  const away = errorsOf(answer);
  if (away.length < 2) return away;
  const tried = away.map(({ message }) => message).join('; ');
  return [new AfterimageError('DAEMON_UNREACHABLE', `no daemon answers here: ${tried}`)];
}

function excuses(answer: StatusAnswer, { stdout, env }: Surroundings): string {
  const errors = isAnswered(answer) ? failures(answer) : refusals(answer);
  return errors.map((error) => renderFailure(error, painter(stdout, env))).join('');
}

function rendered(answer: StatusAnswer, { json }: StatusOptions, { stdout, env, now }: Surroundings): string {
  if (json !== true) return renderStatus(answer, painter(stdout, env));
  return jsonLine({
    time: new Date(now()).toISOString(),
    agent: jsonOf(answer.agent),
    agentError: errorFields(answer.agentError),
    receiver: jsonOf(answer.receiver),
    receiverError: errorFields(answer.receiverError),
  });
}

function errorFields(error: AfterimageError | null): Json {
  return error === null ? null : { code: error.code, message: error.message, hint: error.hint };
}

/** Errors: INTERRUPTED, those of the configuration that names a socket, and of a socket that was named. */
async function ask(options: StatusOptions, surroundings: Surroundings): Promise<StatusAnswer> {
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
  const agentStatus = (client: RpcClient) => client.callUnary(agentControlService.status, {}, limits);
  const receiverStatus = (client: RpcClient) => client.callUnary(receiverControlService.status, {}, limits);
  const none = { agent: null, receiver: null, agentError: null, receiverError: null };
  if (remoteReceiver(options, surroundings) !== null) {
    const answer = await orError(withDaemon('receiver', options, surroundings, receiverStatus));
    return answer instanceof AfterimageError
      ? { ...none, receiverError: answer }
      : { ...none, receiver: answer };
  }
  const named = await namedControl(options, surroundings);
  if (named !== null) {
    const answer = await orError(
      withSocket(named, (client) =>
        receiverElseAgent<StatusAnswer>(
          async () => ({ ...none, receiver: await receiverStatus(client) }),
          async () => ({ ...none, agent: await agentStatus(client) }),
        ),
      ),
    );
    // Nobody knows whose error it is.
    if (answer instanceof AfterimageError) return { ...none, agentError: answer, receiverError: answer };
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
async function orError<T>(answer: Promise<T>): Promise<T | AfterimageError> {
  try {
    return await answer;
  } catch (thrown) {
    if (!(thrown instanceof AfterimageError)) throw thrown;
    return thrown;
  }
}
