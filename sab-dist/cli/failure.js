import { jsonLine } from './json.js';
import { painter, printable } from './table.js';
/**
 * "error CODE: message" and what to do about it, or the same as one JSON object, on stderr. An INTERNAL error without its
 * stack could not be reported usefully.
 */
export function reportFailure(error, isJson, { stderr, env }) {
    const { code, message, hint, retryable, cause } = error;
    const stack = code === 'INTERNAL' && cause instanceof Error ? cause.stack : undefined;
    if (isJson) {
        stderr.write(jsonLine({ error: { code, message, hint, retryable, ...(stack === undefined ? {} : { stack }) } }));
        return;
    }
    if (stack !== undefined)
        stderr.write(`${stack}\n`);
    stderr.write(renderFailure(error, painter(stderr, env)));
}
/** Messages come from other machines, and some have several lines: those of a configuration's mistakes. */
export function renderFailure({ code, message, hint }, paint) {
    const lines = message.split('\n').map(printable).join('\n');
    return `${paint(`error ${code}:`, 'red')} ${lines}\n  → ${hint}\n`;
}
//# sourceMappingURL=failure.js.map