/**
 * The frames of a session on their way into the journal: in order, without a gap, and no more than the disk can follow.
 * Pure; a part of the session machine. What only the bytes can tell (checksums, tables), the journal checks.
 */
import { strict as assert } from 'node:assert';
import { watermarksAt } from '../proto/watermarks.js';
export class Intake {
    epoch;
    generation;
    bytesMax;
    /** applied ≤ durable ≤ received ≤ shipped ≤ captured, asserted after every event. */
    marks;
    #link;
    #pending = [];
    #pendingBytes = 0;
    constructor(epoch, generation, firstLsn, durableLsn, link, bytesMax) {
        this.epoch = epoch;
        this.generation = generation;
        this.bytesMax = bytesMax;
        this.marks = { ...watermarksAt(durableLsn), applied: firstLsn - 1n };
        this.#link = link;
    }
    /** Everything received is durable. */
    get isSettled() {
        return this.marks.durable === this.marks.received;
    }
    /** Null: the frame is next, and is to be appended. */
    frame(header) {
        const fault = this.#fault(header);
        if (fault !== null)
            return fault;
        const { marks } = this;
        marks.received = header.lastLsn;
        marks.shipped = header.lastLsn;
        if (marks.captured < marks.shipped)
            marks.captured = marks.shipped;
        this.#link = header.headerCrc;
        this.#pending.push({ lastLsn: header.lastLsn, bytes: header.bytes });
        this.#pendingBytes += header.bytes;
        return null;
    }
    appended(durableLsn) {
        const { marks } = this;
        assert(durableLsn >= marks.durable && durableLsn <= marks.received, 'the journal has what it was given');
        marks.durable = durableLsn;
        let done = 0;
        for (const { lastLsn, bytes } of this.#pending) {
            if (lastLsn > durableLsn)
                break;
            this.#pendingBytes -= bytes;
            done += 1;
        }
        this.#pending.splice(0, done);
    }
    /** The timeline offers everything durable from `orderedFromLsn` on. */
    offered(orderedFromLsn) {
        const { marks } = this;
        if (orderedFromLsn !== null && orderedFromLsn <= marks.durable)
            marks.applied = marks.durable;
    }
    /** What the agent says it has sent before must be what was received. Null, or what is wrong. */
    heartbeat(shippedLsn, capturedLsn) {
        const { marks } = this;
        if (shippedLsn !== marks.received) {
            return { code: 'SESSION_ORDER', message: `${shippedLsn} was sent, ${marks.received} received` };
        }
        if (capturedLsn < shippedLsn) {
            return { code: 'WATERMARK_INVALID', message: `${shippedLsn} was sent, only ${capturedLsn} captured` };
        }
        if (capturedLsn > marks.captured)
            marks.captured = capturedLsn;
        return null;
    }
    #fault({ epoch, generation, firstLsn, lastLsn, link, bytes }) {
        const { received } = this.marks;
        const fault = (code, message) => ({ code, message });
        if (epoch !== this.epoch)
            return fault('FRAME_FENCED', `epoch ${epoch} in a session of ${this.epoch}`);
        if (generation !== this.generation) {
            return fault('FRAME_GENERATION', `generation ${generation} in a stream of ${this.generation}`);
        }
        if (firstLsn <= received)
            return fault('FRAME_REPEATED', `LSN ${firstLsn} after ${received}`);
        if (firstLsn > received + 1n)
            return fault('FRAME_GAP', `LSN ${firstLsn} after ${received}`);
        if (lastLsn < firstLsn)
            return fault('FRAME_CORRUPT', `LSN ${firstLsn} to ${lastLsn}`);
        if (link !== this.#link)
            return fault('FRAME_LINK', `LSN ${firstLsn} follows another frame`);
        if (this.#pendingBytes + bytes > this.bytesMax) {
            return fault('JOURNAL_OVERLOAD', `${this.#pendingBytes} bytes wait for the disk already`);
        }
        return null;
    }
}
//# sourceMappingURL=intake.js.map