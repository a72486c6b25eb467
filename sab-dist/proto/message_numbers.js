/**
 * The numbers that every message of a session stream carries (replication.proto, `sequence`), of one connection: frames
 * and other messages are counted apart. With one count a message that was lost and one that a frame overtook would make
 * up for each other.
 */
const COUNT_MASK = 0xffff;
const FRAME = 0x1_0000;
export class MessageNumbers {
    #sent = 0;
    #expected = 0;
    /** A new connection. */
    reset() {
        this.#sent = 0;
        this.#expected = 0;
    }
    /** The number of the message that is sent now. */
    next() {
        const sequence = this.#sent;
        this.#sent = afterMessage(sequence);
        return sequence;
    }
    /** A frame is sent now: it carries no number. */
    frameSent() {
        this.#sent = afterFrame(this.#sent);
    }
    /** A frame came. */
    frameCame() {
        this.#expected = afterFrame(this.#expected);
    }
    /** Null: it is the next one. Else what is wrong. */
    check(sequence) {
        const expected = this.#expected;
        if (sequence !== expected)
            return `message ${named(sequence)} came where ${named(expected)} was next`;
        this.#expected = afterMessage(expected);
        return null;
    }
}
function afterMessage(sequence) {
    return ((sequence & ~COUNT_MASK) | ((sequence + 1) & COUNT_MASK)) >>> 0;
}
function afterFrame(sequence) {
    return (sequence + FRAME) >>> 0;
}
function named(sequence) {
    return `${sequence & COUNT_MASK} behind ${sequence >>> 16} frames`;
}
//# sourceMappingURL=message_numbers.js.map