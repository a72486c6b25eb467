/**
 * The way to the receiver: one gRPC stream at a time, opened again after every loss. Knows nothing of what the
 * messages mean; the session (session.ts) does.
 */
import { Client, credentials, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';
import { AfterimageError } from '../proto/errors.js';
import {
  MESSAGE_BYTES_MAX,
  replicationService,
  type AgentMessage,
  type ReceiverMessage,
} from '../proto/replication.js';
import { formatAddress, parseLoopback, type LoopbackAddress } from '../service/config.js';
import { Backoff } from './backoff.js';
import type { Clock } from './clock.js';

/** Measured: +13 % over the default of 64 KiB. */
const FLOW_CONTROL_WINDOW_BYTES = 8 << 20;
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** The channel's own backoff stays out of the way of ours. */
const CHANNEL_RECONNECT_MS = 100;

/** An open stream to the receiver. */
export interface LinkStream {
  /**
   * Queues a message; resolves when the transport has taken it, so that its buffers may be used again. Rejects when
   * the stream ended before. Errors: SESSION_LOST.
   */
  send(message: AgentMessage): Promise<void>;
  /** Ends the stream; the link opens another unless it was stopped. */
  close(): void;
}

/** What the link tells its owner. Calls never overlap; a stream's messages lie between its opened and its closed. */
export interface LinkListener {
  /** A stream exists, the receiver may still be away: send Hello. */
  opened(stream: LinkStream): void;
  received(message: ReceiverMessage): void;
  /** The stream is gone. Errors: RECEIVER_UNREACHABLE, SESSION_LOST, MESSAGE_INVALID, INTERNAL. */
  closed(error: AfterimageError): void;
}

export class ReceiverLink {
  private readonly client: Client;
  private readonly backoff: Backoff;
  private readonly stopping = new AbortController();
  private running: Promise<void> | null = null;

  /** Errors: ADDRESS_NOT_LOOPBACK. */
  constructor(
    address: LoopbackAddress,
    private readonly clock: Clock,
    private readonly listener: LinkListener,
  ) {
    const target = formatAddress(address);
    // The configuration has checked it; plain TCP to anywhere else must not happen by another way either.
    if (typeof parseLoopback(target, 1) !== 'object') {
      throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${target} is not a loopback address`);
    }
    this.backoff = new Backoff(() => clock.random());
    this.client = new Client(target, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.initial_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
      'grpc.max_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
      'grpc.enable_retries': 0,
      'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
    });
  }

  /** Connects, and again after every loss, until stop(). */
  start(): void {
    this.running = this.run();
  }

  /** The session was welcomed: the next loss is the first one again. */
  confirm(): void {
    this.backoff.reset();
  }

  /** Ends the stream, if there is one, and opens no other. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
    this.client.close();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await this.session(signal);
      if (signal.aborted) return;
      try {
        await this.clock.sleep(this.backoff.next(), signal);
      } catch {
        return; // stopped while waiting
      }
    }
  }

  /** One stream, from its opening to its end. */
  private async session(signal: AbortSignal): Promise<void> {
    const { path, requestSerialize, responseDeserialize } = replicationService.session;
    const call = this.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    const stream = new CallStream(call);
    const onStop = (): void => stream.close();
    signal.addEventListener('abort', onStop, { once: true });
    try {
      let isOpen = true;
      const ended = new Promise<AfterimageError>((resolve) => {
        const end = (error: AfterimageError): void => {
          isOpen = false;
          resolve(error);
        };
        call.on('data', (message: ReceiverMessage) => {
          if (isOpen) this.listener.received(message);
        });
        call.on('end', () => end(new AfterimageError('SESSION_LOST', 'the receiver ended the session')));
        call.on('error', (error: ServiceError) => end(lossOf(error)));
      });
      this.listener.opened(stream);
      const error = await ended;
      stream.abandon(error);
      this.listener.closed(error);
    } finally {
      signal.removeEventListener('abort', onStop);
    }
  }
}

type Call = ClientDuplexStream<AgentMessage, ReceiverMessage>;

class CallStream implements LinkStream {
  /** Sends whose callback has not come; grpc-js never calls those that a lost connection left in its queues. */
  private readonly waiting = new Set<(error: AfterimageError) => void>();
  private lost: AfterimageError | null = null;

  constructor(private readonly call: Call) {}

  send(message: AgentMessage): Promise<void> {
    if (this.lost !== null) return Promise.reject(this.lost);
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      this.call.write(message, (error?: Error | null) => {
        if (!this.waiting.delete(reject)) return;
        if (error) reject(new AfterimageError('SESSION_LOST', error.message, { cause: error }));
        else resolve();
      });
    });
  }

  close(): void {
    this.call.cancel();
  }

  /** The stream is gone: nothing of it will use a buffer any more, and nobody need wait. */
  abandon(error: AfterimageError): void {
    this.lost = error;
    this.call.cancel();
    this.call.destroy();
    for (const reject of this.waiting) reject(error);
    this.waiting.clear();
  }
}

const GRPC_UNAVAILABLE = 14;

function lossOf(error: ServiceError): AfterimageError {
  if (error instanceof AfterimageError) return error;
  const code = error.code === GRPC_UNAVAILABLE ? 'RECEIVER_UNREACHABLE' : 'SESSION_LOST';
  return new AfterimageError(code, error.details || error.message, { cause: error });
}
