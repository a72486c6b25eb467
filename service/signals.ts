/** How a daemon is asked to end. */
import { AfterimageError } from '../proto/errors.js';

/** The two stages of an end. Both reasons are AfterimageErrors of code INTERRUPTED that name the signal. */
export interface StopSignals {
  /** Finish what is under way, acknowledge, detach, then end. */
  readonly drain: AbortSignal;
  /** End now: nothing that is acknowledged may be lost, all else may. Never aborted before `drain`. */
  readonly end: AbortSignal;
}

/** SIGHUP too: a terminal that closes must not take a protected volume's server away without a drain. */
const STOPPING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

type SignalSource = Pick<NodeJS.EventEmitter, 'on' | 'off'>;

/** From now on the first signal drains and the second ends, until dispose() gives signals their usual effect back. */
export function stopSignals(source: SignalSource = process): StopSignals & { dispose(): void } {
  const drain = new AbortController();
  const end = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    const controller = drain.signal.aborted ? end : drain;
    controller.abort(new AfterimageError('INTERRUPTED', signal));
  };
  for (const signal of STOPPING) source.on(signal, onSignal);
  return {
    drain: drain.signal,
    end: end.signal,
    dispose() {
      for (const signal of STOPPING) source.off(signal, onSignal);
    },
  };
}
