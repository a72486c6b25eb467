/** Virtual time: what is to happen, in order. One unit is a millisecond; nothing takes real time. */
export class Scheduler {
    #nowMs = 0;
    #order = 0;
    /** A binary heap by time, then by the order of asking. */
    #heap = [];
    get nowMs() {
        return this.#nowMs;
    }
    after(delayMs, run) {
        this.#order += 1;
        this.#heap.push({ at: this.#nowMs + delayMs, order: this.#order, run });
        let child = this.#heap.length - 1;
        while (child > 0) {
            const parent = (child - 1) >> 1;
            if (!this.#isBefore(child, parent))
                break;
            this.#swap(child, parent);
            child = parent;
        }
    }
    /** Runs what is due until `untilMs`, or until `isDone`. */
    run(untilMs, isDone = () => false) {
        while (!isDone()) {
            const task = this.#heap[0];
            if (task === undefined || task.at > untilMs) {
                this.#nowMs = Math.max(this.#nowMs, untilMs);
                return;
            }
            this.#pop();
            this.#nowMs = task.at;
            task.run();
        }
    }
    #pop() {
        const last = this.#heap.pop();
        if (last === undefined || this.#heap.length === 0)
            return;
        this.#heap[0] = last;
        let parent = 0;
        for (;;) {
            const left = parent * 2 + 1;
            if (left >= this.#heap.length)
                return;
            const right = left + 1;
            const least = right < this.#heap.length && this.#isBefore(right, left) ? right : left;
            if (!this.#isBefore(least, parent))
                return;
            this.#swap(least, parent);
            parent = least;
        }
    }
    #task(index) {
        const task = this.#heap[index];
        if (task === undefined)
            throw new Error('outside the heap');
        return task;
    }
    #isBefore(a, b) {
        const [left, right] = [this.#task(a), this.#task(b)];
        return left.at < right.at || (left.at === right.at && left.order < right.order);
    }
    #swap(a, b) {
        [this.#heap[a], this.#heap[b]] = [this.#task(b), this.#task(a)];
    }
}
/**
 * What one process still has to do. `end` forgets all of it, as a crash does; what is asked for in order comes in order
 * where `inOrder` says so.
 */
export class Process {
    scheduler;
    #isAlive = true;
    #lanes = new Map();
    constructor(scheduler) {
        this.scheduler = scheduler;
    }
    get isAlive() {
        return this.#isAlive;
    }
    after(delayMs, run) {
        this.scheduler.after(delayMs, () => {
            if (this.#isAlive)
                run();
        });
    }
    /** Not before what was asked for earlier in the same lane. */
    inOrder(lane, delayMs, run) {
        const at = Math.max(this.#lanes.get(lane) ?? 0, this.scheduler.nowMs + delayMs);
        this.#lanes.set(lane, at);
        this.after(at - this.scheduler.nowMs, run);
    }
    end() {
        this.#isAlive = false;
    }
}
//# sourceMappingURL=scheduler.js.map