/** How far a recovery is. */
import type { RecoverProgress } from '../proto/control.js';
import { jsonOf } from './json.js';
import { percent } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import type { Output } from './surroundings.js';
import { printable } from './table.js';

export class Progress {
  private readonly share: ShareOfBytes;
  /** For people: where it is. */
  position = 'before the first byte';
  /** With what point the same recovery goes on; "" while there is none. */
  point = '';

  constructor(
    private readonly output: Output,
    private readonly isJson: boolean,
  ) {
    this.share = new ShareOfBytes(output, isJson);
  }

  show(message: RecoverProgress): void {
    const { volume, phase, bytesDone, bytesTotal } = message;
    this.point = message.point;
    const verb = phase === 'verify' ? 'verifying' : 'copying';
    if (phase !== 'done') {
      this.position = printable(`${verb} ${volume} at ${percent(bytesDone, bytesTotal)} %`);
    } else if (!this.output.isTerminal || this.isJson) return;
    // The bar has the phase itself.
    const isBar = this.output.isTerminal && !this.isJson;
    const subject = { verb: isBar ? phase : verb, subject: volume, stage: `${volume} ${phase}` };
    this.share.show({ ...subject, fields: jsonOf(message) }, bytesDone, bytesTotal);
  }

  end(): void {
    this.share.end();
  }
}
