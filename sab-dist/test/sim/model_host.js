/**
 * A protected host: volumes of a few blocks, production that writes them, and the history of what it wrote. The history
 * is the oracle: it is kept here, in the order of publication, by code that knows nothing of sessions.
 */
import { strict as assert } from 'node:assert';
/** Bytes of a model block: a sector. Its content is one number, 0 for zero. */
export const BLOCK_BYTES = 512;
export class ModelHost {
    volumes;
    random;
    nextStamp;
    onLsn;
    /** The backings: content by volume and block. */
    backings;
    /** The state that the history starts from, and every change since. */
    origin;
    changes = [];
    inFlight = new Set();
    capture = null;
    logs = null;
    /** What a power loss cannot take away. */
    #stable;
    #lsnMax = 0n;
    #hotBlock = 0;
    constructor(volumes, content, random, 
    /** Stamps are unique over all hosts of a history. */
    nextStamp, onLsn) {
        this.volumes = volumes;
        this.random = random;
        this.nextStamp = nextStamp;
        this.onLsn = onLsn;
        this.backings = content.map((blocks) => [...blocks]);
        this.origin = content.map((blocks) => [...blocks]);
        this.#stable = content.map((blocks) => [...blocks]);
    }
    /** Production writes something; `process` is the agent that serves it. */
    write(process) {
        const volume = this.random.int(0, this.volumes.length - 1);
        const blocks = this.#backing(volume);
        const count = this.random.int(1, 4);
        const block = this.#place(blocks.length - count);
        if (this.isLocked(volume, block, count))
            return; // the extent lock: it waits, and here another write comes anyway
        const value = this.random.chance(0.2) ? 0 : this.nextStamp();
        const change = { volume, block, count, value, before: blocks.slice(block, block + count) };
        this.inFlight.add(change);
        this.logs?.enter(volume, block, count);
        blocks.fill(value, block, block + count);
        process.after(this.random.int(0, 6), () => this.#publish(change));
    }
    /** Production works in one place for a while: the rest is not in doubt. */
    #place(blockMax) {
        if (this.random.chance(0.01))
            this.#hotBlock = this.random.int(0, 1000);
        const hot = this.#hotBlock % (blockMax + 1);
        return this.random.chance(0.03)
            ? this.random.int(0, blockMax)
            : Math.min(blockMax, hot + this.random.int(0, 7));
    }
    isLocked(volume, block, count) {
        for (const other of this.inFlight) {
            if (other.volume === volume && other.block < block + count && block < other.block + other.count)
                return true;
        }
        return false;
    }
    read(volume, block, count) {
        return this.#backing(volume).slice(block, block + count);
    }
    /** The agent process dies: writes in flight reached the backing, or did not; nobody was told. */
    crash() {
        for (const change of this.inFlight) {
            if (this.random.chance(0.5)) {
                this.#record(change);
            }
            else {
                this.#backing(change.volume).splice(change.block, change.count, ...change.before);
            }
        }
        this.inFlight.clear();
        this.capture = null;
        this.logs = null;
    }
    /** Everything written so far is on stable storage. */
    flush() {
        this.#stable = this.backings.map((blocks) => [...blocks]);
    }
    /** After crash(): any of what was not flushed is gone. The history has it as if somebody had written what is there now. */
    losePower() {
        let lost = 0;
        this.backings.forEach((blocks, volume) => {
            blocks.forEach((value, block) => {
                const stable = this.#stable[volume]?.[block] ?? 0;
                if (value === stable || this.random.chance(0.5))
                    return;
                blocks[block] = stable;
                this.#record({ volume, block, count: 1, value: stable });
                lost += 1;
            });
        });
        this.flush();
        return lost;
    }
    /** No LSN twice, whatever the agents of this host forget. */
    lsnGiven(lsn) {
        assert(lsn > this.#lsnMax, `LSN ${lsn} was given before, up to ${this.#lsnMax}`);
        this.#lsnMax = lsn;
        this.onLsn(lsn);
    }
    #publish(change) {
        this.inFlight.delete(change);
        this.#record(change);
        this.capture?.publish([change]);
        this.logs?.leave(change.volume, change.block, change.count);
    }
    #record({ volume, block, count, value }) {
        this.changes.push({ volume, block, count, value });
    }
    #backing(volume) {
        const blocks = this.backings[volume];
        if (blocks === undefined)
            throw new Error(`no volume ${volume}`);
        return blocks;
    }
}
export function apply(state, { volume, block, count, value }) {
    state[volume]?.fill(value, block, block + count);
}
//# sourceMappingURL=model_host.js.map