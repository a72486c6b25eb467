/** How a daemon is asked to end. */
import { isatty } from 'node:tty';
import { AfterimageError } from '../proto/errors.js';
/** Resolves as soon as `signal` is aborted. */
export function aborted(signal) {
    if (signal.aborted)
        return Promise.resolve();
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
const STOPPING = ['SIGINT', 'SIGTERM'];
const STANDARD_STREAMS = [0, 1, 2];
/**
 * From now on the first of SIGINT, SIGTERM and SIGHUP drains and the second ends, until dispose() gives signals their
 * usual effect back. SIGHUP has no effect on a process without a terminal.
 */
export function stopSignals(source = process) {
    const drain = new AbortController();
    const end = new AbortController();
    const onSignal = (signal) => {
        const controller = drain.signal.aborted ? end : drain;
        controller.abort(new AfterimageError('INTERRUPTED', signal));
    };
    // A terminal that closes must not take a protected volume's server away without a drain; nor at all from a process
    // that was detached from it. Node forgets that nohup had SIGHUP ignored, so the streams that nohup redirects must tell.
    const onHangup = STANDARD_STREAMS.some((stream) => isatty(stream)) ? onSignal : () => undefined;
    for (const signal of STOPPING)
        source.on(signal, onSignal);
    source.on('SIGHUP', onHangup);
    return {
        drain: drain.signal,
        end: end.signal,
        dispose() {
            for (const signal of STOPPING)
                source.off(signal, onSignal);
            source.off('SIGHUP', onHangup);
        },
    };
}
//# sourceMappingURL=signals.js.map