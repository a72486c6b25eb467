export class Shipper {
    source;
    send;
    clock;
    lag;
    listener;
    /** Sent and not yet known to be durable, in order of LSN; bounded by the session's window. */
    unacknowledged = [];
    /** The session waits for the answer to its pull. */
    isWanted = false;
    /** The capture group owes a delivery. */
    isOwed = false;
    restart = null;
    /** The end of a stream that was given up, for the next pull. */
    abandoned = null;
    /** What framing began after, or the last LSN taken since: the group lets nothing beyond it be released. */
    takenLsn = 0n;
    releasableLsn = 0n;
    lastLsn = 0n;
    totalBytes = 0n;
    constructor(source, send, clock, lag, listener) {
        this.source = source;
        this.send = send;
        this.clock = clock;
        this.lag = lag;
        this.listener = listener;
    }
    /** durable ≤ shipped ≤ captured: the last LSN sent, or the one that sending began after. */
    get shippedLsn() {
        return this.lastLsn;
    }
    /** Frame bytes sent since the start, repetitions included. */
    get shippedBytes() {
        return this.totalBytes;
    }
    /** Takes the next delivery. One call at a time; nothing comes any more once the group is closed. */
    pull() {
        this.isWanted = true;
        this.proceed();
    }
    /**
     * Frames again from after `durableLsn`; `link` names the receiver's last frame (replication.proto, Welcome). A frame
     * of the old framing may already be on its way here: it is thrown away, and the pull that it answered repeated.
     */
    startShipping(durableLsn, link) {
        this.stopShipping();
        this.lastLsn = durableLsn;
        // After an immediate nothing of the old framing can be in the microtask queue.
        this.restart = setImmediate(() => {
            this.restart = null;
            try {
                this.source.startShipping(durableLsn, link);
                this.takenLsn = durableLsn;
                if (this.releasableLsn <= durableLsn)
                    this.source.release(this.releasableLsn);
                this.proceed();
            }
            catch (thrown) {
                this.listener.failed(thrown);
            }
        });
    }
    stopShipping() {
        if (this.restart !== null)
            clearImmediate(this.restart);
        this.restart = null;
        this.unacknowledged.length = 0;
        this.source.stopShipping();
    }
    /** Ends the stream and forgets what the ring holds of it; its end answers the next pull, or the one that waits. */
    abandon(reason) {
        this.stopShipping();
        this.source.abandonStream();
        const { generation, capturedLsn } = this.source.stats();
        this.takenLsn = this.releasableLsn = capturedLsn;
        this.abandoned = { kind: 'end', generation, lastLsn: capturedLsn, reason };
        this.proceed();
    }
    ship(frame) {
        const bytes = frame.buffer.length - frame.headroom;
        this.lastLsn = frame.lastLsn;
        this.totalBytes += BigInt(bytes);
        this.unacknowledged.push({ lastLsn: frame.lastLsn, firstTimeNs: frame.firstTimeNs });
        this.send({ frame: { buffer: frame.buffer, headroom: frame.headroom } })
            .then(() => {
            frame.release();
            this.listener.sent(bytes);
        }, 
        // The link reports the loss; the next session sends it again from the ring.
        () => frame.release())
            .catch((error) => this.listener.failed(error));
    }
    /** The receiver has everything up to `durableLsn` on stable storage. */
    acknowledge(durableLsn) {
        const nowNs = this.clock.nowNs();
        let count = 0;
        for (const frame of this.unacknowledged) {
            if (frame.lastLsn > durableLsn)
                break;
            this.lag.record(nowNs - frame.firstTimeNs);
            count += 1;
        }
        this.unacknowledged.splice(0, count);
    }
    /** The ring may forget everything up to `lsn`. */
    release(lsn) {
        this.releasableLsn = lsn;
        if (lsn <= this.takenLsn) {
            this.source.release(lsn);
        }
        else if (this.restart === null) {
            const { streaming, capturedLsn } = this.source.stats();
            // All of a stream that has ended, and was not taken again since: it is given up as a whole. Else the receiver
            // turned out to have more than it had acknowledged, and framing is about to begin there.
            if (streaming || lsn !== capturedLsn)
                return;
            this.source.abandonStream();
            this.takenLsn = lsn;
        }
    }
    /** Answers the session's pull, or asks the group to. */
    proceed() {
        if (!this.isWanted)
            return;
        if (this.abandoned !== null) {
            const end = this.abandoned;
            this.abandoned = null;
            this.answer(end);
        }
        else if (!this.isOwed && this.restart === null) {
            this.isOwed = true;
            this.source
                .next()
                .then((delivery) => {
                this.isOwed = false;
                if (delivery !== null)
                    this.deliver(delivery);
            })
                .catch((error) => this.listener.failed(error));
        }
    }
    deliver(delivery) {
        if (this.restart === null && this.isWanted)
            return this.answer(delivery);
        // Of a framing, or a stream, that is no more; an end comes again in the place where it belongs.
        if (delivery.kind === 'frame')
            delivery.release();
        this.proceed();
    }
    answer(delivery) {
        this.isWanted = false;
        if (delivery.kind === 'frame')
            this.takenLsn = delivery.lastLsn;
        this.listener.pulled(delivery);
    }
}
//# sourceMappingURL=shipper.js.map