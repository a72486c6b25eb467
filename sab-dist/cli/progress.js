import { jsonOf } from './json.js';
import { percent } from './quantity.js';
import { ShareOfBytes } from './share_of_bytes.js';
import { printable } from './table.js';
export class Progress {
    output;
    isJson;
    share;
    /** For people: where it is. */
    position = 'before the first byte';
    /** With what point the same recovery goes on; "" while there is none. */
    point = '';
    constructor(output, isJson) {
        this.output = output;
        this.isJson = isJson;
        this.share = new ShareOfBytes(output, isJson);
    }
    show(message) {
        const { volume, phase, bytesDone, bytesTotal } = message;
        this.point = message.point;
        const verb = phase === 'verify' ? 'verifying' : 'copying';
        if (phase !== 'done') {
            this.position = printable(`${verb} ${volume} at ${percent(bytesDone, bytesTotal)} %`);
        }
        else if (!this.output.isTerminal || this.isJson)
            return;
        // The bar has the phase itself.
        const isBar = this.output.isTerminal && !this.isJson;
        const subject = { verb: isBar ? phase : verb, subject: volume, stage: `${volume} ${phase}` };
        this.share.show({ ...subject, fields: jsonOf(message) }, bytesDone, bytesTotal);
    }
    end() {
        this.share.end();
    }
}
//# sourceMappingURL=progress.js.map