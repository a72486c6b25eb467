/** What an operator should know of a group's spool, told when it changes. */
import type { Log } from '../service/log.js';
import type * as native from '../native/index.js';

type SpoolStats = Pick<native.CaptureStats, 'spoolFault' | 'spoolMessage' | 'spoolForeign' | 'spoolBytes'>;

export class SpoolReport {
  #fault = '';
  #foreign = '';

  constructor(private readonly log: Log) {}

  tell({ spoolFault, spoolMessage, spoolForeign, spoolBytes }: SpoolStats): void {
    if (spoolFault !== this.#fault) {
      if (spoolFault !== '') this.log.warn({ code: spoolFault, spoolBytes }, spoolMessage);
      else this.log.info('the spool takes what the ring has no room for again');
    }
    if (spoolForeign !== this.#foreign && spoolForeign !== '') {
      this.log.warn({ code: 'SPOOL_FOREIGN' }, `not files of this spool, and let lie: ${spoolForeign}`);
    }
    this.#fault = spoolFault;
    this.#foreign = spoolForeign;
  }
}

/** As the status has it; "": nothing is to be said. */
export function spoolDetail({
  spoolFault,
  spoolMessage,
}: Pick<SpoolStats, 'spoolFault' | 'spoolMessage'>): string {
  return spoolFault === '' ? '' : `${spoolFault}: ${spoolMessage}`;
}
