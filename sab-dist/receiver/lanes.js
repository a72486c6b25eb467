/** Work that must keep an order within its lane, while lanes go on beside each other. */
export class Lanes {
    ends = new Map();
    joined = new Set();
    /** Runs `work` after everything given to the lane before. `work` does not throw: it owns its errors. */
    run(lane, work) {
        const before = this.ends.get(lane) ?? Promise.resolve();
        const end = before.then(work).finally(() => {
            if (this.ends.get(lane) === end)
                this.ends.delete(lane);
        });
        this.ends.set(lane, end);
    }
    /** Lets idle() wait for `work`, which runs on its own and does not throw either. */
    join(work) {
        const end = work.finally(() => this.joined.delete(end));
        this.joined.add(end);
    }
    /** Resolves when nothing is under way, and nothing that was given meanwhile. */
    async idle() {
        while (this.ends.size + this.joined.size > 0) {
            await Promise.all([...this.ends.values(), ...this.joined]);
        }
    }
}
//# sourceMappingURL=lanes.js.map