/** Longest that a message is held back, counted in messages that overtake it. */
const OVERTAKERS_MAX = 6;
/** One end of a connection. */
export class Endpoint {
    scheduler;
    random;
    faults;
    delayMsMax;
    onFault;
    outOfOrder;
    onMessage = () => undefined;
    onClosed = () => undefined;
    /** Until its owner has said Goodbye: what comes then, in whatever order, is looked at no more. */
    isListening = true;
    #isOpen = true;
    #busyUntil = 0;
    /** Held back so that the next messages overtake them. */
    #held = [];
    #peer = null;
    #sent = { frames: 0, messages: 0 };
    #delivered = { frames: 0, messages: 0 };
    constructor(scheduler, random, faults, 
    /** Longest delay of a message, ms, as it is now. */
    delayMsMax, onFault, 
    /** Delivers a message that is not the next one of its lane: whoever gets it has to refuse it. */
    outOfOrder) {
        this.scheduler = scheduler;
        this.random = random;
        this.faults = faults;
        this.delayMsMax = delayMsMax;
        this.onFault = onFault;
        this.outOfOrder = outOfOrder;
    }
    static connect(a, b) {
        a.#peer = b;
        b.#peer = a;
    }
    /** `sent` is called when the transport has taken the message over. */
    send(message, sent = () => undefined) {
        if (!this.#isOpen)
            return;
        const { faults, random } = this;
        this.scheduler.after(random.int(0, 3), () => {
            if (this.#isOpen)
                sent();
        });
        const number = (this.#sent[laneOf(message)] += 1);
        if (random.chance(faults.lose))
            return this.onFault('messageLost');
        if (random.chance(faults.reorder)) {
            const overtakers = random.int(1, OVERTAKERS_MAX);
            this.#held.push({ message, number, overtakers });
            return this.onFault(overtakers === 1 ? 'messageReordered' : 'messageHeldBack');
        }
        this.#transmit(message, number);
        for (const held of this.#held)
            held.overtakers -= 1;
        for (const held of this.#held.filter(({ overtakers }) => overtakers === 0)) {
            this.#transmit(held.message, held.number);
        }
        this.#held = this.#held.filter(({ overtakers }) => overtakers > 0);
        if (random.chance(faults.repeat)) {
            this.onFault('messageRepeated');
            this.#transmit(message, number);
        }
    }
    /** What is on its way in either direction is lost; with `gently` what was sent still arrives. */
    close(gently = false) {
        if (!this.#isOpen)
            return;
        this.#isOpen = false;
        const peer = this.#peer;
        this.scheduler.after(0, () => this.onClosed());
        if (!gently)
            return peer?.close();
        this.scheduler.after(Math.max(0, this.#busyUntil - this.scheduler.nowMs), () => peer?.close());
    }
    #transmit(message, number) {
        const at = Math.max(this.#busyUntil, this.scheduler.nowMs + this.random.int(1, this.delayMsMax()));
        this.#busyUntil = at;
        const peer = this.#peer;
        this.scheduler.after(at - this.scheduler.nowMs, () => {
            if (peer !== null && peer.#isOpen)
                peer.#receive(message, number);
        });
    }
    #receive(message, number) {
        const lane = laneOf(message);
        const isNext = number === this.#delivered[lane] + 1;
        this.#delivered[lane] = number;
        if (isNext || !this.isListening)
            this.onMessage(message);
        else
            this.outOfOrder(() => this.onMessage(message));
    }
}
function laneOf(message) {
    return typeof message === 'object' && message !== null && 'frame' in message ? 'frames' : 'messages';
}
//# sourceMappingURL=network.js.map