/** The replication server: takes streams from agents, on loopback only as long as there is no TLS. */
import { AfterimageError } from '../proto/errors.js';
import { MESSAGE_BYTES_MAX, replicationService } from '../proto/replication.js';
import { RpcServer } from '../service/rpc.js';
import { Ingest } from './ingest.js';
const FLOW_CONTROL_BYTES = 8 * 1024 * 1024;
const KEEPALIVE_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;
/** Streams at once; one more is refused. */
const SESSIONS_MAX = 256;
export class ReplicationServer {
    parts;
    rpc = new RpcServer({
        'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
        'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
        'grpc.keepalive_time_ms': KEEPALIVE_MS,
        'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc-node.flow_control_window': FLOW_CONTROL_BYTES,
    });
    sessions = new Set();
    isStopping = false;
    constructor(parts) {
        this.parts = parts;
        this.rpc.add(replicationService, {
            session: (stream) => this.serve(stream),
        });
    }
    /** Gives the address with its port. Errors: LISTEN_BUSY, LISTEN_FAILED. */
    listen(address) {
        return this.rpc.listenLoopback(address);
    }
    /** Ends every session, waits for what is under way, and stops listening. */
    async stop(graceMs) {
        this.isStopping = true;
        const stopped = this.rpc.stop(graceMs);
        await Promise.all([...this.sessions].map((session) => session.drain()));
        await stopped;
    }
    serve(stream) {
        if (this.isStopping)
            return void stream.end();
        if (this.sessions.size >= SESSIONS_MAX)
            return this.refuse(stream);
        const session = new Ingest(this.parts, stream);
        this.sessions.add(session);
        void session.ended.then(() => this.sessions.delete(session));
    }
    refuse(stream) {
        const { code, message, retryable } = new AfterimageError('SESSION_LIMIT', `${SESSIONS_MAX} agents are here`);
        this.parts.log.warn({ code, peer: stream.getPeer() }, 'session refused');
        // What it says meanwhile is nobody's.
        stream.on('error', () => undefined);
        stream.resume();
        stream.write({ sequence: 0, refused: { code, message, retryable } });
        stream.end();
    }
}
//# sourceMappingURL=server.js.map