export class CheckpointRequests {
    countMax;
    port;
    #pending = new Map();
    constructor(countMax, port) {
        this.countMax = countMax;
        this.port = port;
    }
    /** Asked for at the agent. */
    requested(requestId, name, isStreaming) {
        if (!isStreaming) {
            this.#result(requestId, 'RECEIVER_UNREACHABLE', 'no session with the receiver');
        }
        else if (this.#pending.size >= this.countMax) {
            this.#result(requestId, 'CHECKPOINT_BUSY', `${this.countMax} checkpoints are under way`);
        }
        else {
            this.#readPosition(requestId, name, 'agent');
        }
    }
    /** Asked for at the receiver. A request that finds no room is answered by LSN 0, which cannot be kept. */
    asked({ requestId, name }, isStreaming) {
        if (isStreaming && this.#pending.size < this.countMax)
            this.#readPosition(requestId, name, 'receiver');
        else
            this.port.send({ checkpoint: { requestId, name, lsn: 0n, timeNs: 0n } });
    }
    positionRead(position) {
        if (!this.#pending.has(position.requestId))
            return; // asked on a connection that is gone
        const { requestId, name, lsn, timeNs } = position;
        this.port.send({ checkpoint: { requestId, name, lsn: lsn ?? 0n, timeNs } });
    }
    done({ requestId, code, message }) {
        if (this.#pending.get(requestId) === 'agent')
            this.#result(requestId, code, message);
        this.#pending.delete(requestId);
    }
    /** The connection is gone, and with it the answers. */
    lost() {
        for (const [requestId, origin] of this.#pending) {
            if (origin === 'agent')
                this.#result(requestId, 'SESSION_LOST', 'the session ended before the answer');
        }
        this.#pending.clear();
    }
    #readPosition(requestId, name, origin) {
        this.#pending.set(requestId, origin);
        this.port.emit({ type: 'readPosition', requestId, name });
    }
    #result(requestId, code, message) {
        this.port.emit({ type: 'checkpointResult', requestId, code, message });
    }
}
//# sourceMappingURL=checkpoint_requests.js.map