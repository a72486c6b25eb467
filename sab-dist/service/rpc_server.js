/**
 * A gRPC server whose sockets are made by service/listen.ts, so that a control socket has its mode from birth, and
 * handlers that are plain async functions and generators which throw AfterimageErrors.
 */
import { once } from 'node:events';
import net from 'node:net';
import { Server, ServerCredentials, } from '@grpc/grpc-js';
import { CONTROL_MESSAGE_BYTES_MAX } from '../proto/control.js';
import { listenLoopback, listenUnix } from './listen.js';
import { statusOf } from './rpc_status.js';
/** One server: services are added first, then it listens, on any number of sockets. */
export class RpcServer {
    server;
    injector;
    listeners = [];
    connections = new Set();
    /** Its limits are those of a control socket; `options` add to or replace message limits, keepalive and the like. */
    constructor(options = {}) {
        this.server = new Server({
            'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
            'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES_MAX,
            ...options,
        });
        this.injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    }
    add(service, handlers) {
        this.server.addService(service, handlers);
    }
    /** Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
    async listenUnix(socket) {
        const listener = this.listener();
        await listenUnix(listener, socket);
        this.listeners.push(listener);
    }
    /** Gives the address with the port that was chosen for port 0. Errors: LISTEN_BUSY, LISTEN_FAILED. */
    async listenLoopback(address) {
        const listener = this.listener();
        const bound = await listenLoopback(listener, address);
        this.listeners.push(listener);
        return bound;
    }
    /** Takes no more calls, gives those under way `graceMs` to end, then cuts them off. */
    async stop(graceMs) {
        const closed = this.listeners.map(async (listener) => {
            const close = once(listener, 'close');
            listener.close();
            await close;
        });
        const force = setTimeout(() => this.cutOff(), graceMs);
        await new Promise((resolve) => this.server.tryShutdown(() => resolve()));
        clearTimeout(force);
        this.cutOff();
        await Promise.all(closed);
    }
    listener() {
        return net.createServer({ noDelay: true }, (connection) => {
            this.connections.add(connection);
            connection.once('close', () => this.connections.delete(connection));
            this.injector.injectConnection(connection);
        });
    }
    /** grpc-js knows sessions only: a connection that has not spoken yet would keep its listener open. */
    cutOff() {
        this.server.forceShutdown();
        this.injector.destroy();
        for (const connection of this.connections)
            connection.destroy();
    }
}
/** A unary handler from an async function. */
export function unary(handle) {
    return (call, callback) => {
        const cancelled = new AbortController();
        call.on('cancelled', () => cancelled.abort());
        // A handler that throws before it gives its promise must not throw into gRPC, which knows no codes.
        const answer = async () => handle(call.request, { signal: cancelled.signal });
        answer().then((response) => callback(null, response), (thrown) => callback(statusOf(thrown)));
    };
}
/** A server-streaming handler from an async generator, which is ended (`return`) when the caller goes away. */
export function serverStream(handle) {
    return (call) => {
        const cancelled = new AbortController();
        call.on('cancelled', () => cancelled.abort());
        const send = async () => {
            for await (const response of handle(call.request, { signal: cancelled.signal })) {
                if (cancelled.signal.aborted)
                    return;
                if (!call.write(response))
                    await drained(call, cancelled.signal);
            }
        };
        send().then(() => call.end(), (thrown) => call.emit('error', statusOf(thrown)));
    };
}
function drained(call, cancelled) {
    return new Promise((resolve) => {
        const done = () => {
            call.off('drain', done);
            cancelled.removeEventListener('abort', done);
            resolve();
        };
        call.once('drain', done);
        cancelled.addEventListener('abort', done, { once: true });
        if (cancelled.aborted)
            done();
    });
}
//# sourceMappingURL=rpc_server.js.map