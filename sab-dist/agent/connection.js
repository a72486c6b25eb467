/** One attempt to connect to the receiver and, if it succeeds, its gRPC stream. */
import { status } from '@grpc/grpc-js';
import { AfterimageError } from '../proto/errors.js';
export class Connection {
    ending = new AbortController();
    ended;
    resolveEnded;
    call = null;
    /** Sends whose callback has not come; grpc-js never calls those that a lost connection left in its queues. */
    waiting = new Set();
    lost = null;
    isAnswered = false;
    constructor() {
        this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
    }
    open(call, received) {
        this.call = call;
        call.on('data', (message) => {
            this.isAnswered = true;
            if (this.lost === null)
                received(message);
        });
        call.on('end', () => this.end(new AfterimageError('SESSION_LOST', 'the receiver ended the session')));
        call.on('error', (error) => this.end(this.lossOf(error)));
    }
    send(message) {
        const { call, lost } = this;
        if (lost !== null)
            return Promise.reject(lost);
        if (call === null)
            return Promise.reject(new AfterimageError('SESSION_LOST', 'not connected yet'));
        return new Promise((resolve, reject) => {
            this.waiting.add(reject);
            call.write(message, (error) => {
                if (!this.waiting.delete(reject))
                    return;
                if (error)
                    reject(new AfterimageError('SESSION_LOST', error.message, { cause: error }));
                else
                    resolve();
            });
        });
    }
    /** The stream is gone: nothing of it will use a buffer any more, and nobody need wait. */
    end(error) {
        if (this.lost !== null)
            return;
        this.lost = error;
        this.call?.cancel();
        this.call?.destroy();
        this.ending.abort();
        for (const reject of this.waiting)
            reject(error);
        this.waiting.clear();
        this.resolveEnded(error);
    }
    lossOf(error) {
        const away = error.code === status.UNAVAILABLE && !this.isAnswered;
        const code = away ? 'RECEIVER_UNREACHABLE' : 'SESSION_LOST';
        return new AfterimageError(code, error.details || error.message, { cause: error });
    }
}
//# sourceMappingURL=connection.js.map