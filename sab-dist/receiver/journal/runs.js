import { toAfterimageError } from '../../proto/errors.js';
import { runFile } from '../store.js';
import { segmentInfo } from './segment_row.js';
/** Segments of one round whose run could not be built; beyond this the disk is the problem, and the round ends. */
const FAILED_MAX = 16;
export class RunBuilds {
    options;
    /** In the present round. */
    failed = new Set();
    working = null;
    isClosing = false;
    constructor(options) {
        this.options = options;
    }
    /** A segment was sealed, or may be without a run. What is to do lies in the catalog: there is no queue. */
    wake() {
        if (this.isClosing)
            return;
        this.working ??= this.buildAll()
            .catch((thrown) => {
            // The catalog cannot be read: the next sealed segment tries again.
            this.options.log.warn({ err: toAfterimageError(thrown) }, 'no run could be built');
        })
            .finally(() => {
            this.working = null;
        });
    }
    /** Whether a round is under way. */
    get isBusy() {
        return this.working !== null;
    }
    /** Waits for the build under way. */
    async close() {
        this.isClosing = true;
        await this.working;
    }
    async buildAll() {
        this.failed.clear();
        for (let row = this.next(); row !== null && !this.isClosing; row = this.next())
            await this.build(row);
    }
    async build(row) {
        const { catalog, store, log, buildRun } = this.options;
        const group = catalog.members.member(row.member)?.group;
        if (group === undefined)
            throw new Error(`segment ${row.firstLsn} of no member`);
        const file = store.segmentFile(group, row.member, row.firstLsn);
        try {
            await buildRun(segmentInfo(row, file), runFile(file));
            catalog.segments.setRun(row.member, row.firstLsn, true);
        }
        catch (thrown) {
            this.failed.add(key(row));
            log.warn({ err: toAfterimageError(thrown), segment: file }, 'no run could be built: its segment is scanned instead');
        }
    }
    next() {
        if (this.failed.size >= FAILED_MAX)
            return null;
        const rows = this.options.catalog.segments.withoutRun(this.failed.size + 1);
        return rows.find((row) => !this.failed.has(key(row))) ?? null;
    }
}
function key({ member, firstLsn }) {
    return `${member}/${firstLsn}`;
}
//# sourceMappingURL=runs.js.map