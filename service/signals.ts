/** How a daemon is asked to end. */
import { isatty } from 'node:tty';
import { AfterimageError } from '../proto/errors.js';

/** The two stages of an end. Both reasons are AfterimageErrors of code INTERRUPTED that name the signal. */
export interface StopSignals {
  /** Finish what is under way, acknowledge, detach, then end. */
  readonly drain: AbortSignal;
  /** End now: nothing that is acknowledged may be lost, all else may. Never aborted before `drain`. */
  readonly end: AbortSignal;
  /** `listener` is called whenever the configuration is to be read again. Not there: nobody asks for that. */
  readonly onReload?: (listener: () => void) => void;
}

/** Resolves as soon as `signal` is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

const STOPPING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
const STANDARD_STREAMS = [0, 1, 2];

type SignalSource = Pick<NodeJS.EventEmitter, 'on' | 'off'>;

/**
 * From now on the first of SIGINT, SIGTERM and SIGHUP drains and the second ends, until dispose() gives signals their
 * usual effect back. To a process without a terminal SIGHUP says that its configuration is to be read again.
 */
export function stopSignals(source: SignalSource = process): Required<StopSignals> & { dispose(): void } {
  const drain = new AbortController();
  const end = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    const controller = drain.signal.aborted ? end : drain;
    controller.abort(new AfterimageError('INTERRUPTED', signal));
  };
  // A terminal that closes must not take a protected volume's server away without a drain; nor at all from a process
  // that was detached from it. Node forgets that nohup had SIGHUP ignored, so the streams that nohup redirects must tell.
  const reloads: (() => void)[] = [];
  const reload = (): void => reloads.forEach((listener) => listener());
  const onHangup = STANDARD_STREAMS.some((stream) => isatty(stream)) ? onSignal : reload;
  for (const signal of STOPPING) source.on(signal, onSignal);
  source.on('SIGHUP', onHangup);
  return {
    drain: drain.signal,
    end: end.signal,
    onReload: (listener) => void reloads.push(listener),
    dispose() {
      for (const signal of STOPPING) source.off(signal, onSignal);
      source.off('SIGHUP', onHangup);
    },
  };
}
