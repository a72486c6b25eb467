/** `afterimage status`: how protection is doing, at both ends as far as they are here. */
import type { Command } from 'commander';
import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import type { RpcClient } from '../service/rpc.js';
import { ANSWER_MS_MAX, isAway, receiverElseAgent, withDaemon, withSocket } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, examples, namedControl, type ClientOptions } from './option.js';
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
  const status = clientVerb(program, 'status', 'show agent, receiver, groups and volumes')
    .option('--watch', 'refresh every second until Ctrl-C')
    .action((options: StatusOptions) => (options.watch === true ? watch : once)(options, surroundings));
  examples(status, [
    ['afterimage status', 'whatever daemons run on this machine'],
    ['afterimage status --watch', 'the same, refreshed in place'],
    ['afterimage status --json --watch', 'one JSON object per line and second'],
  ]);
}

async function once(options: StatusOptions, surroundings: Surroundings): Promise<void> {
  const answer = await ask(options, surroundings);
  surroundings.stdout.write(rendered(answer, options, surroundings));
}

/** Goes on while the daemons are away: they may be restarting. Ends without an error, since Ctrl-C is its only end. */
async function watch(options: StatusOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, stop, now } = surroundings;
  const isRedrawn = stdout.isTerminal && options.json !== true;
  if (isRedrawn) stdout.write(CLEAR_SCREEN);
  while (!stop.drain.aborted) {
    const begun = now();
    const text = await askOrExcuse(options, surroundings);
    if (stop.drain.aborted) return;
    if (isRedrawn) stdout.write(CURSOR_HOME + text.replaceAll('\n', `${CLEAR_TO_LINE_END}\n`) + CLEAR_BELOW);
    else stdout.write(options.json === true ? text : `${text}\n`);
    await surroundings.sleep(Math.max(0, REFRESH_MS - (now() - begun)), stop.drain);
  }
}

async function askOrExcuse(options: StatusOptions, surroundings: Surroundings): Promise<string> {
  try {
    return rendered(await ask(options, surroundings), options, surroundings);
  } catch (thrown) {
    if (!(thrown instanceof AfterimageError) || !thrown.retryable) throw thrown;
    if (options.json === true) return rendered({ agent: null, receiver: null }, options, surroundings);
    return `${thrown.message}\n`;
  }
}

function rendered(answer: StatusAnswer, { json }: StatusOptions, { stdout, env, now }: Surroundings): string {
  if (json !== true) return renderStatus(answer, painter(stdout, env));
  return jsonLine({
    time: new Date(now()).toISOString(),
    agent: jsonOf(answer.agent),
    receiver: jsonOf(answer.receiver),
  });
}

/** Errors: DAEMON_UNREACHABLE when no daemon answers, PERMISSION_DENIED. */
async function ask(options: StatusOptions, surroundings: Surroundings): Promise<StatusAnswer> {
  const limits = { timeoutMs: ANSWER_MS_MAX, signal: surroundings.stop.drain };
  const agentStatus = (client: RpcClient) => client.callUnary(agentControlService.status, {}, limits);
  const receiverStatus = (client: RpcClient) => client.callUnary(receiverControlService.status, {}, limits);
  const named = await namedControl(options, surroundings);
  if (named !== null) {
    return withSocket(named, (client) =>
      receiverElseAgent<StatusAnswer>(
        async () => ({ agent: null, receiver: await receiverStatus(client) }),
        async () => ({ agent: await agentStatus(client), receiver: null }),
      ),
    );
  }
  const away: string[] = [];
  const orAway = async <T>(answer: Promise<T>): Promise<T | null> => {
    try {
      return await answer;
    } catch (thrown) {
      if (!isAway(thrown)) throw thrown;
      away.push(thrown.message);
      return null;
    }
  };
  const [agent, receiver] = await Promise.all([
    orAway(withDaemon('agent', options, surroundings, agentStatus)),
    orAway(withDaemon('receiver', options, surroundings, receiverStatus)),
  ]);
  if (agent === null && receiver === null) {
    throw new AfterimageError('DAEMON_UNREACHABLE', `no daemon answers here: ${away.join('; ')}`);
  }
  return { agent, receiver };
}
