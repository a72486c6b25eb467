/**
 * What a restart or an upgrade asks for: this process ends for a successor, which the service manager starts with what is
 * in its store. It must be little that is imported here (test/house/takeover_imports.test.ts).
 */
import * as native from '../native/index.js';
import type { Log } from '../service/log.js';
import { successorRefusal } from './layouts.js';

export const HAND_OVER_SIGNAL = 'SIGUSR2';

export interface HandOverSurroundings {
  log: Log;
  /** Aborted when a stop begins: users of the volumes are waited for then, and nobody follows. */
  drain: AbortSignal;
  /** Something waits in the store for another version than this one: whoever follows is welcome. */
  isRescue: () => boolean;
  /** This process will have ended on purpose. */
  ending: () => void;
}

/** Listens from its construction until dispose(). */
export class HandOver {
  private readonly over = new AbortController();
  private isAsking = false;

  constructor(private readonly around: HandOverSurroundings) {
    process.on(HAND_OVER_SIGNAL, this.onSignal);
  }

  dispose(): void {
    this.over.abort();
    process.off(HAND_OVER_SIGNAL, this.onSignal);
  }

  private readonly onSignal = (): void => void this.handOver();

  /**
   * Nothing is done in good order on purpose: what a killed agent leaves must be enough anyway, and this way it is tried at
   * every upgrade.
   */
  private async handOver(): Promise<void> {
    const { log, drain, isRescue, ending } = this.around;
    if (!native.hasServiceManager())
      return log.error(`${HAND_OVER_SIGNAL}: there is no service manager that would start a successor`);
    if (this.isAsking) return;
    const stopped = AbortSignal.any([drain, this.over.signal]);
    const refusal = stopped.aborted || isRescue() ? null : await this.ask(stopped);
    // To a service manager the death of a process that it had told to stop is the end of the stop, and of the store.
    if (stopped.aborted) return log.info(`${HAND_OVER_SIGNAL}: a stop is under way, and nobody follows`);
    if (refusal !== null) {
      tell(`STATUS=not handed over: ${refusal.replaceAll('\n', ' ')}`);
      const what = `${HAND_OVER_SIGNAL}: the program that would follow is refused, this one serves on`;
      return log.error({ reason: refusal }, what);
    }
    log.info('handing over to a successor');
    ending();
    process.kill(process.pid, 'SIGKILL');
  }

  private async ask(stopped: AbortSignal): Promise<string | null> {
    this.isAsking = true;
    this.around.log.info(`${HAND_OVER_SIGNAL}: asking the program that would follow`);
    tell('STATUS=');
    try {
      return await successorRefusal(stopped);
    } catch (thrown) {
      return `it cannot be asked: ${String(thrown)}`;
    } finally {
      this.isAsking = false;
    }
  }
}

/** For people: that it cannot be told changes nothing. */
function tell(assignment: string): void {
  try {
    native.tellServiceManager(assignment);
  } catch {
    // Who looks at the log has it there.
  }
}
