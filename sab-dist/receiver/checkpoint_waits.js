import { isName } from '../service/settings.js';
import { NUMBER_MAX } from './session_limits.js';
export class CheckpointWaits {
    countMax;
    port;
    #waiting = [];
    #keeping = new Set();
    /** Asked for by an operator here. */
    #asked = new Set();
    constructor(countMax, port) {
        this.countMax = countMax;
        this.port = port;
    }
    ask(request, isOpen) {
        const { requestId } = request;
        if (!isOpen)
            this.#result(requestId, 'AGENT_AWAY', 'the agent sends nothing now');
        else if (this.#asked.size >= this.countMax)
            this.#result(requestId, 'CHECKPOINT_BUSY', 'too many at once');
        else {
            this.#asked.add(requestId);
            this.port.send({ checkpointRequest: request });
        }
    }
    /** The agent marks `checkpoint.lsn`. */
    add(checkpoint, isOpen) {
        const { requestId, name, lsn, timeNs } = checkpoint;
        if (!isName(name))
            this.#answer(requestId, 'CHECKPOINT_INVALID', `"${name}" is no name`);
        else if (timeNs > NUMBER_MAX)
            this.#answer(requestId, 'CHECKPOINT_INVALID', `no clock shows ${timeNs}`);
        else if (!isOpen || lsn === 0n)
            this.#answer(requestId, 'POINT_GRADE', 'nothing is captured now');
        else if (this.#waiting.length + this.#keeping.size >= this.countMax) {
            this.#answer(requestId, 'CHECKPOINT_BUSY', `${this.countMax} checkpoints are under way`);
        }
        else
            this.#waiting.push(checkpoint);
    }
    /**
     * Keeps what can be kept, refuses what never will. `orderedSoonFromLsn`: the last sync is about to end there, so a
     * checkpoint at or after it is not lost yet.
     */
    advance(durableLsn, orderedFromLsn, orderedSoonFromLsn) {
        for (const checkpoint of this.#waiting.filter(({ lsn }) => lsn <= durableLsn)) {
            const { requestId, lsn } = checkpoint;
            if (orderedFromLsn !== null && lsn >= orderedFromLsn) {
                this.#keeping.add(requestId);
                this.port.emit({ type: 'keepCheckpoint', checkpoint });
            }
            else if (orderedFromLsn === null && orderedSoonFromLsn !== null && lsn >= orderedSoonFromLsn) {
                continue;
            }
            else {
                this.#answer(requestId, 'POINT_GRADE', `LSN ${lsn} is not ordered`);
            }
            this.#waiting.splice(this.#waiting.indexOf(checkpoint), 1);
        }
    }
    kept(requestId, code, message) {
        if (this.#keeping.delete(requestId))
            this.#answer(requestId, code, message);
    }
    /** The generation has ended: what still waits is in none. */
    refuseWaiting() {
        for (const { requestId } of this.#waiting.splice(0)) {
            this.#answer(requestId, 'POINT_GRADE', 'the stream ended before');
        }
    }
    /** The session has ended. */
    lost() {
        for (const requestId of this.#asked)
            this.#result(requestId, 'SESSION_LOST', 'the session ended before');
        this.#asked.clear();
        this.#waiting.length = 0;
        this.#keeping.clear();
    }
    #answer(requestId, code, message) {
        this.port.send({ checkpointDone: { requestId, code, message } });
        if (this.#asked.delete(requestId))
            this.#result(requestId, code, message);
    }
    #result(requestId, code, message) {
        this.port.emit({ type: 'checkpointResult', requestId, code, message });
    }
}
//# sourceMappingURL=checkpoint_waits.js.map