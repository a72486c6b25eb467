/** How far something is that reads or writes so many bytes: a bar on a terminal, a line every ten per cent elsewhere. */
import { jsonLine } from './json.js';
import { formatBytes, formatShare, percent } from './quantity.js';
import { printable } from './table.js';
const STEP_PERCENT = 10;
const BAR_COLUMNS_MAX = 30;
/** The line without the bar has about so many characters. */
const TEXT_COLUMNS = 60;
const CLEAR_LINE = '\r\x1b[K';
export class ShareOfBytes {
    output;
    isJson;
    stage = '';
    step = -1;
    isBarShown = false;
    /** With `isJson`, lines are objects: `{"progress": {…}}`. */
    constructor(output, isJson) {
        this.output = output;
        this.isJson = isJson;
    }
    /**
     * "VERB SUBJECT: 10 %, …". `stage`: what begins a count of its own; where the subject changes with every piece of one
     * count it is "". `fields`: what an object has.
     */
    show({ verb, subject, stage, fields }, bytesDone, bytesTotal) {
        const share = percent(bytesDone, bytesTotal);
        const amounts = `${formatShare(bytesDone, bytesTotal)}, ${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}`;
        const what = printable(`${verb} ${subject}`);
        if (this.output.isTerminal && !this.isJson) {
            this.bar(what, share, amounts);
            return;
        }
        if (stage !== this.stage)
            [this.stage, this.step] = [stage, -1];
        const step = Math.floor(share / STEP_PERCENT);
        if (step === this.step)
            return;
        this.step = step;
        if (this.isJson)
            this.output.write(jsonLine({ progress: fields }));
        else
            this.output.write(`${what}: ${amounts}\n`);
    }
    /** Takes the bar away; what follows begins on a line of its own. */
    end() {
        if (this.isBarShown)
            this.output.write(CLEAR_LINE);
        this.isBarShown = false;
    }
    bar(what, share, amounts) {
        const columns = Math.max(0, Math.min(BAR_COLUMNS_MAX, this.output.columns - TEXT_COLUMNS));
        const full = Math.floor((columns * share) / 100);
        const bar = columns === 0 ? '' : `[${'#'.repeat(full)}${'.'.repeat(columns - full)}] `;
        this.output.write(CLEAR_LINE + `${what} ${bar}${amounts}`.slice(0, this.output.columns - 1));
        this.isBarShown = true;
    }
}
//# sourceMappingURL=share_of_bytes.js.map