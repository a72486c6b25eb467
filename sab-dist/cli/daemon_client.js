/** Conversations with a daemon. */
import { agentControlService, receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import { RpcClient } from '../service/rpc.js';
import { controlSocket } from './option.js';
/** Longest wait for an answer that the daemon has at hand. */
export const ANSWER_MS_MAX = 10_000;
/** Longest wait for what takes work: a point that is opened, a checkpoint that must become durable. */
export const WORK_MS_MAX = 120_000;
/** What the other daemon would answer on the socket of the one that was meant. */
const STATUS_OF_OTHER = { agent: receiverControlService.status, receiver: agentControlService.status };
const OTHER = { agent: "a receiver's", receiver: "an agent's" };
/**
 * Runs `talk` with a client of the daemon's control socket, and hangs up. Errors: DAEMON_UNREACHABLE, DAEMON_MISMATCH
 * when the other daemon listens there, PERMISSION_DENIED.
 */
export async function withDaemon(daemon, options, surroundings, talk) {
    const socket = await controlSocket(daemon, options, surroundings);
    return withSocket(socket, async (client) => {
        try {
            return await talk(client);
        }
        catch (thrown) {
            // No call of a daemon's is known there: of another version, or the other daemon.
            if (!hasCode(thrown, 'PROTOCOL_VERSION') || !(await answers(client, STATUS_OF_OTHER[daemon])))
                throw thrown;
            const message = `${socket} is ${OTHER[daemon]} socket; this verb asks the ${daemon}`;
            throw new AfterimageError('DAEMON_MISMATCH', message, { cause: thrown });
        }
    });
}
export async function withSocket(socket, talk) {
    const client = await RpcClient.openControl(socket);
    try {
        return await talk(client);
    }
    finally {
        client.close();
    }
}
/** Whether the daemon is not there, in contrast to one that answers with an error. */
export function isAway(thrown) {
    return hasCode(thrown, 'DAEMON_UNREACHABLE');
}
export function hasCode(thrown, ...codes) {
    return thrown instanceof AfterimageError && codes.includes(thrown.code);
}
/** Asks a daemon of which only the socket is known: one that does not know the receiver's service is an agent. */
export async function receiverElseAgent(askReceiver, askAgent) {
    try {
        return await askReceiver();
    }
    catch (thrown) {
        if (!hasCode(thrown, 'PROTOCOL_VERSION'))
            throw thrown;
        return askAgent();
    }
}
async function answers(client, status) {
    try {
        // One of two methods, of which only the answer's type differs: it is not looked at.
        await client.callUnary(status, {}, { timeoutMs: ANSWER_MS_MAX });
        return true;
    }
    catch {
        return false;
    }
}
//# sourceMappingURL=daemon_client.js.map