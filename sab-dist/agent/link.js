/**
 * The way to the receiver: one gRPC stream at a time. When to open and to close it, and what its messages mean, is
 * the session's business (session.ts).
 */
import { Client, credentials } from '@grpc/grpc-js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { MESSAGE_BYTES_MAX, replicationService, } from '../proto/replication.js';
import { formatAddress, parseLoopback } from '../service/config.js';
import { backoffMs } from './backoff.js';
import { Connection } from './connection.js';
/** Measured: +13 % over the default of 64 KiB. */
const FLOW_CONTROL_WINDOW_BYTES = 8 << 20;
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** The channel's own backoff stays out of the way of ours. */
const CHANNEL_RECONNECT_MS = 100;
export class ReceiverLink {
    clock;
    listener;
    client;
    connection = null;
    /** Errors: ADDRESS_NOT_LOOPBACK. */
    constructor(address, clock, listener) {
        this.clock = clock;
        this.listener = listener;
        const target = formatAddress(address);
        // The configuration has checked it; plain TCP to anywhere else must not happen by another way either.
        if (typeof parseLoopback(target, 1) !== 'object') {
            throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${target} is not a loopback address`);
        }
        this.client = new Client(target, credentials.createInsecure(), {
            'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
            'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
            'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
            'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
            'grpc.initial_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
            'grpc.max_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
            'grpc.enable_retries': 0,
            // Or plain text would leave the machine by way of `http_proxy`.
            'grpc.enable_http_proxy': 0,
            // Groups do not share a connection: a busy one would hold up the others' acknowledgements.
            'grpc.use_local_subchannel_pool': 1,
            'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
        });
    }
    /** Opens a stream, after a pause that grows with `attempt`. The one before has been closed. */
    connect(attempt) {
        const connection = new Connection();
        this.connection = connection;
        void this.converse(connection, backoffMs(attempt, () => this.clock.random()));
    }
    /** Ends the stream; `error` is what closed() will say. Without a stream it does nothing. */
    disconnect(error) {
        this.connection?.end(error);
    }
    /**
     * Queues a message; resolves when the transport has taken it, so that its buffers may be used again. Errors:
     * SESSION_LOST and others when the stream is gone; its buffers are free then too.
     */
    send(message) {
        if (this.connection === null) {
            return Promise.reject(new AfterimageError('SESSION_LOST', 'there is no connection to the receiver'));
        }
        return this.connection.send(message);
    }
    /** No connect() may follow. */
    close() {
        this.disconnect(new AfterimageError('CLOSED', 'the agent stops'));
        this.client.close();
    }
    /** One stream, from the pause before it to its end. Never rejects. */
    async converse(connection, pauseMs) {
        await this.clock.sleep(pauseMs, connection.ending.signal).catch(() => undefined);
        if (!connection.ending.signal.aborted)
            this.open(connection);
        const error = await connection.ended;
        if (this.connection === connection)
            this.connection = null;
        this.listener.closed(error);
    }
    open(connection) {
        const { path, requestSerialize, responseDeserialize } = replicationService.session;
        try {
            const call = this.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
            connection.open(call, (message) => this.listener.received(message));
        }
        catch (thrown) {
            return connection.end(toAfterimageError(thrown));
        }
        this.listener.opened();
    }
}
//# sourceMappingURL=link.js.map