/** Calls to a daemon: promises and async generators that throw AfterimageErrors with the code that the daemon gave. */
import { Client, credentials, Metadata, } from '@grpc/grpc-js';
import { CONTROL_MESSAGE_BYTES_MAX } from '../proto/control.js';
import { probeUnix } from './listen.js';
import { errorOf } from './rpc_status.js';
import { formatAddress } from './settings.js';
export class RpcClient {
    peer;
    client;
    constructor(target, peer, options) {
        this.peer = peer;
        this.client = new Client(target, credentials.createInsecure(), {
            'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
            'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES_MAX,
            // A daemon that is not there is an answer: the caller decides about trying again.
            'grpc.enable_retries': 0,
            // Or plain text would leave the machine by way of `http_proxy`.
            'grpc.enable_http_proxy': 0,
            'grpc.use_local_subchannel_pool': 1,
            ...options,
        });
    }
    /** The daemon behind a control socket. Errors: DAEMON_UNREACHABLE, PERMISSION_DENIED. */
    static async openControl(socket) {
        await probeUnix(socket);
        return new RpcClient(`unix:${socket}`, socket, {});
    }
    /** A daemon on loopback TCP. It is connected by the first call. */
    static openLoopback(address, options = {}) {
        const target = formatAddress(address);
        return new RpcClient(target, target, options);
    }
    /**
     * Errors: those of the handler, DAEMON_UNREACHABLE, DAEMON_TIMEOUT, INTERRUPTED (aborted), MESSAGE_INVALID,
     * MESSAGE_TOO_LARGE, PROTOCOL_VERSION (no such call there).
     */
    callUnary(method, request, { timeoutMs, signal }) {
        return new Promise((resolve, reject) => {
            const onAbort = () => call.cancel();
            const call = this.client.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, new Metadata(), { deadline: Date.now() + timeoutMs }, (error, response) => {
                signal?.removeEventListener('abort', onAbort);
                if (error !== null)
                    reject(errorOf(error, this.peer, signal?.aborted === true));
                else
                    resolve(response);
            });
            signal?.addEventListener('abort', onAbort, { once: true });
            if (signal?.aborted === true)
                onAbort();
        });
    }
    /** The messages of a server-streaming call, read no faster than they are taken. Errors: as callUnary. */
    async *callStream(method, request, { timeoutMs, signal }) {
        const call = this.client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request, new Metadata(), timeoutMs === null ? {} : { deadline: Date.now() + timeoutMs });
        const onAbort = () => call.cancel();
        // Cancelling emits an error that nobody waits for any more.
        call.on('error', () => undefined);
        signal?.addEventListener('abort', onAbort, { once: true });
        if (signal?.aborted === true)
            onAbort();
        try {
            for await (const message of call)
                yield message;
        }
        catch (thrown) {
            throw errorOf(thrown, this.peer, signal?.aborted === true);
        }
        finally {
            signal?.removeEventListener('abort', onAbort);
            call.cancel();
        }
    }
    close() {
        this.client.close();
    }
}
//# sourceMappingURL=rpc_client.js.map