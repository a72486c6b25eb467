import { toCatalogError } from '../catalog/database.js';
export class ScrubSchedule {
    parts;
    stopping = new AbortController();
    working = Promise.resolve();
    timer = null;
    constructor(parts) {
        this.parts = parts;
    }
    start() {
        if (this.parts.settings.everyNs === null)
            return;
        this.timer = setInterval(() => {
            this.working = this.working.then(() => this.look());
        }, this.parts.lookMs);
    }
    /** Interrupts a scrub of its own; it begins anew the next time. */
    async stop() {
        if (this.timer !== null)
            clearInterval(this.timer);
        this.stopping.abort();
        await this.working;
    }
    async look() {
        const { scrub, settings, log } = this.parts;
        if (scrub.step !== null || this.stopping.signal.aborted)
            return;
        try {
            const due = this.due();
            if (due === null)
                return;
            for await (const { damaged, done } of scrub.run([due], settings.rateMax, this.stopping.signal)) {
                if (done && damaged > 0n)
                    log.error({ group: due.name, damaged }, 'a scrub has found damage');
            }
        }
        catch (thrown) {
            const err = toCatalogError(thrown);
            if (err.code !== 'INTERRUPTED' && err.code !== 'SCRUB_BUSY')
                log.error({ err }, 'a scrub failed');
        }
    }
    due() {
        const { catalog, nowNs, settings } = this.parts;
        const groups = catalog.members.groups().flatMap((group) => {
            const last = catalog.members
                .members(group.uuid)
                // One that never was waits as long as any: a new store is not read at once.
                .map(({ uuid }) => catalog.scrubs.last(uuid)?.finishedNs ?? this.firstSeenNs(uuid));
            return last.length === 0
                ? []
                : [{ group, lastNs: last.reduce((left, right) => (left < right ? left : right)) }];
        });
        const [oldest] = groups.sort((left, right) => (left.lastNs < right.lastNs ? -1 : 1));
        return oldest !== undefined && nowNs() - oldest.lastNs >= (settings.everyNs ?? 0n) ? oldest.group : null;
    }
    /** When the receiver first heard of the member. */
    firstSeenNs(member) {
        return this.parts.catalog.generations.generations(member)[0]?.beginNs ?? this.parts.nowNs();
    }
}
//# sourceMappingURL=schedule.js.map