/** How far a recovery is: a bar that moves on a terminal, a line every ten per cent elsewhere. */
import type { RecoverProgress } from '../proto/control.js';
import { jsonLine, jsonOf } from './json.js';
import { formatBytes, formatShare, percent } from './quantity.js';
import type { Output } from './surroundings.js';
import { printable } from './table.js';

const STEP_PERCENT = 10;
const BAR_COLUMNS_MAX = 30;
/** The line without the bar has about so many characters. */
const TEXT_COLUMNS = 60;
const CLEAR_LINE = '\r\x1b[K';

export class Progress {
  private stage = '';
  private step = -1;
  private isBarShown = false;
  /** For people: where it is. */
  position = 'before the first byte';
  /** With what point the same recovery goes on; "" while there is none. */
  point = '';

  /** With `isJson`, lines are objects: `{"progress": {…}}`. */
  constructor(
    private readonly output: Output,
    private readonly isJson: boolean,
  ) {}

  show(message: RecoverProgress): void {
    const { volume, phase, bytesDone, bytesTotal } = message;
    const share = percent(bytesDone, bytesTotal);
    this.point = message.point;
    const verb = phase === 'verify' ? 'verifying' : 'copying';
    if (phase !== 'done') this.position = printable(`${verb} ${volume} at ${share} %`);
    if (this.output.isTerminal && !this.isJson) {
      this.bar(message);
      return;
    }
    if (`${volume} ${phase}` !== this.stage) [this.stage, this.step] = [`${volume} ${phase}`, -1];
    const step = Math.floor(share / STEP_PERCENT);
    if (step === this.step || phase === 'done') return;
    this.step = step;
    if (this.isJson) this.output.write(jsonLine({ progress: jsonOf(message) }));
    else this.output.write(`${printable(`${verb} ${volume}`)}: ${amounts(message)}\n`);
  }

  /** Takes the bar away; what follows begins on a line of its own. */
  end(): void {
    if (this.isBarShown) this.output.write(CLEAR_LINE);
    this.isBarShown = false;
  }

  private bar(message: RecoverProgress): void {
    const { volume, phase, bytesDone, bytesTotal } = message;
    const columns = Math.max(0, Math.min(BAR_COLUMNS_MAX, this.output.columns - TEXT_COLUMNS));
    const full = Math.floor((columns * percent(bytesDone, bytesTotal)) / 100);
    const bar = columns === 0 ? '' : `[${'#'.repeat(full)}${'.'.repeat(columns - full)}] `;
    const line = `${phase} ${printable(volume)} ${bar}${amounts(message)}`;
    this.output.write(CLEAR_LINE + line.slice(0, this.output.columns - 1));
    this.isBarShown = true;
  }
}

function amounts({ bytesDone, bytesTotal }: RecoverProgress): string {
  return `${formatShare(bytesDone, bytesTotal)}, ${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}`;
}
