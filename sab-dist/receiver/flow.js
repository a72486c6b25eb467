/** Holds a stream back while too much of what it brought is still on its way to the disk. */
/** Bytes taken in and not yet durable; beyond this the stream is paused, and resumed at half of it. */
export const INTAKE_BYTES_MAX = 16 * 1024 * 1024;
/** Likewise messages: the journal's writer takes 64 frames at once (JOURNAL_OVERLOAD). */
export const INTAKE_MESSAGES_MAX = 48;
export class FlowGate {
    stream;
    bytes = 0;
    messages = 0;
    isBlocked = false;
    isPaused = false;
    isOpen = false;
    constructor(stream) {
        this.stream = stream;
    }
    /** Something came in; give it back with leave(). */
    enter(bytes) {
        this.bytes += bytes;
        this.messages += 1;
        this.update();
    }
    leave(bytes) {
        this.bytes -= bytes;
        this.messages -= 1;
        this.update();
    }
    /** Also held back while our own answers do not get through. */
    block(isBlocked) {
        this.isBlocked = isBlocked;
        this.update();
    }
    /** Lets everything through from now on: what still comes is thrown away. */
    open() {
        this.isOpen = true;
        this.update();
    }
    update() {
        const isFull = this.bytes > INTAKE_BYTES_MAX || this.messages >= INTAKE_MESSAGES_MAX;
        const isLow = this.bytes <= INTAKE_BYTES_MAX / 2 && this.messages <= INTAKE_MESSAGES_MAX / 2;
        if (!this.isPaused && !this.isOpen && (isFull || this.isBlocked)) {
            this.isPaused = true;
            this.stream.pause();
        }
        else if (this.isPaused && (this.isOpen || (isLow && !this.isBlocked))) {
            this.isPaused = false;
            this.stream.resume();
        }
    }
}
//# sourceMappingURL=flow.js.map