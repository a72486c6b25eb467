/** Calls to a daemon: promises and async generators that throw AfterimageErrors with the code that the daemon gave. */
import {
  Client,
  credentials,
  Metadata,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientReadableStream,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { CONTROL_MESSAGE_BYTES_MAX } from '../proto/control.js';
import type { Identity } from './identity.js';
import { probeUnix } from './listen.js';
import { errorOf } from './rpc_status.js';
import { formatAddress, type LoopbackAddress, type NetworkAddress } from './settings.js';
import { TLS_CHANNEL, tlsCredentials } from './tls_client.js';

export interface UnaryOptions {
  /** Longest wait for the answer, milliseconds. */
  timeoutMs: number;
  signal?: AbortSignal;
}
export interface StreamOptions {
  /** Null: as long as it takes. */
  timeoutMs: number | null;
  signal?: AbortSignal;
}

export class RpcClient {
  private readonly client: Client;

  private constructor(
    target: string,
    private readonly peer: string,
    channelCredentials: ChannelCredentials,
    options: ChannelOptions,
  ) {
    this.client = new Client(target, channelCredentials, {
      'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES_MAX,
      // A daemon that is not there is an answer: the caller decides about trying again.
      'grpc.enable_retries': 0,
      // Or plain text would leave the machine by way of `http_proxy`; and a receiver is at the address that was named.
      'grpc.enable_http_proxy': 0,
      'grpc.use_local_subchannel_pool': 1,
      ...options,
    });
  }

  /** The daemon behind a control socket. Errors: DAEMON_UNREACHABLE, PERMISSION_DENIED. */
  static async openControl(socket: string): Promise<RpcClient> {
    await probeUnix(socket);
    return new RpcClient(`unix:${socket}`, socket, credentials.createInsecure(), {});
  }

  /** A daemon on loopback TCP. It is connected by the first call. */
  static openLoopback(address: LoopbackAddress, options: ChannelOptions = {}): RpcClient {
    const target = formatAddress(address);
    return new RpcClient(target, target, credentials.createInsecure(), options);
  }

  /** A receiver of that authority, PEM; `own`: null for a stranger. It is connected by the first call. */
  static openTls(
    address: NetworkAddress,
    authority: string,
    own: Pick<Identity, 'certificate' | 'key'> | null,
    options: ChannelOptions = {},
  ): RpcClient {
    const target = formatAddress(address);
    return new RpcClient(target, target, tlsCredentials(authority, own), { ...TLS_CHANNEL, ...options });
  }

  /**
   * Errors: those of the handler, DAEMON_UNREACHABLE, DAEMON_TIMEOUT, INTERRUPTED (aborted), MESSAGE_INVALID,
   * MESSAGE_TOO_LARGE, PROTOCOL_VERSION (no such call there).
   */
  callUnary<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    { timeoutMs, signal }: UnaryOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => call.cancel();
      const call = this.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, response) => {
          signal?.removeEventListener('abort', onAbort);
          if (error !== null) reject(errorOf(error, this.peer, signal?.aborted === true));
          else resolve(response as Response);
        },
      );
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
    });
  }

  /** The messages of a server-streaming call, read no faster than they are taken. Errors: as callUnary. */
  async *callStream<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    { timeoutMs, signal }: StreamOptions,
  ): AsyncGenerator<Response, void> {
    const call: ClientReadableStream<Response> = this.client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      timeoutMs === null ? {} : { deadline: Date.now() + timeoutMs },
    );
    const onAbort = (): void => call.cancel();
    // Cancelling emits an error that nobody waits for any more.
    call.on('error', () => undefined);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    try {
      for await (const message of call) yield message as Response;
    } catch (thrown) {
      throw errorOf(thrown as ServiceError, this.peer, signal?.aborted === true);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      call.cancel();
    }
  }

  close(): void {
    this.client.close();
  }
}
