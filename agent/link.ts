/**
 * The way to the receiver: one gRPC stream at a time. When to open and to close it, and what its messages mean, is
 * the session's business (session.ts).
 */
import { Client } from '@grpc/grpc-js';
import { isTcpClosed } from '../native/index.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import {
  MESSAGE_BYTES_MAX,
  prefixedMessage,
  replicationService,
  type OutgoingMessage,
  type ReceiverMessage,
} from '../proto/replication.js';
import { sendPrefixed } from '../service/message_prefix.js';
import { OwnedCredentials } from '../service/owned_credentials.js';
import { backoffMs } from './backoff.js';
import type { Clock } from './clock.js';
import { Connection } from './connection.js';
import type { Endpoint, ReceiverEndpoint } from './endpoint.js';

/** Measured: +13 % over the default of 64 KiB. */
const FLOW_CONTROL_WINDOW_BYTES = 8 << 20;
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** The channel's own backoff stays out of the way of ours. */
const CHANNEL_RECONNECT_MS = 100;

/** For what was said last to get through, once a channel is closed. */
const CHANNEL_END_MS = 5_000;

sendPrefixed(prefixedMessage);

/** What the link tells its owner: for every connect() first opened, unless it failed before, and at last closed. */
export interface LinkListener {
  /** Messages can be sent; whether anybody is there shows when the first one is answered. */
  opened(): void;
  received(message: ReceiverMessage): void;
  /** Errors: RECEIVER_UNREACHABLE, SESSION_LOST, or what disconnect() was given. */
  closed(error: AfterimageError): void;
}

export class ReceiverLink {
  private connection: Connection | null = null;
  /** Of the channel that was made last. */
  private credentials: OwnedCredentials | null = null;

  constructor(
    private readonly endpoint: ReceiverEndpoint,
    private readonly clock: Clock,
    private readonly listener: LinkListener,
  ) {}

  /** Opens a stream, after a pause that grows with `attempt`. The one before has been closed. */
  connect(attempt: number): void {
    const connection = new Connection();
    this.connection = connection;
    void this.converse(
      connection,
      backoffMs(attempt, () => this.clock.random()),
    );
  }

  /** A second has passed: a connection that has ended, and does not know it, is found. */
  ticked(): void {
    if (this.credentials?.isGone === true) this.connection?.reset();
  }

  /** Ends the stream; `error` is what closed() will say. Without a stream it does nothing. */
  disconnect(error: AfterimageError): void {
    this.connection?.end(error);
  }

  /**
   * Queues a message; resolves when the transport has taken it, so that its buffers may be used again. Errors:
   * SESSION_LOST and others when the stream is gone; its buffers are free then too.
   */
  send(message: OutgoingMessage): Promise<void> {
    if (this.connection === null) {
      return Promise.reject(new AfterimageError('SESSION_LOST', 'there is no connection to the receiver'));
    }
    return this.connection.send(message);
  }

  /** No connect() may follow. */
  close(): void {
    this.disconnect(new AfterimageError('CLOSED', 'the agent stops'));
  }

  /** One stream, from the pause before it to its end. Never rejects. */
  private async converse(connection: Connection, pauseMs: number): Promise<void> {
    await this.clock.sleep(pauseMs, connection.ending.signal).catch(() => undefined);
    if (!connection.ending.signal.aborted) await this.open(connection);
    const error = await connection.ended;
    if (this.connection === connection) this.connection = null;
    this.listener.closed(error);
  }

  /** Never rejects. */
  private async open(connection: Connection): Promise<void> {
    const { path, requestSerialize, responseDeserialize } = replicationService.session;
    try {
      // A channel for each: what shows who this host is may have been renewed.
      const endpoint = await this.endpoint.find();
      if (connection.ending.signal.aborted) return;
      const credentials = new OwnedCredentials(endpoint.credentials, isTcpClosed);
      this.credentials = credentials;
      const client = clientOf(endpoint, credentials);
      void connection.ended.then(() => {
        if (this.credentials === credentials) this.credentials = null;
        client.close();
        setTimeout(() => credentials.cutOff(), CHANNEL_END_MS).unref();
      });
      const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
      connection.open(
        call,
        (message) => this.listener.received(message),
        () => credentials.cutOff(),
      );
    } catch (thrown) {
      return connection.end(toAfterimageError(thrown));
    }
    this.listener.opened();
  }
}

function clientOf({ target, options }: Endpoint, credentials: OwnedCredentials): Client {
  return new Client(target, credentials, {
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
    'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.initial_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
    'grpc.max_reconnect_backoff_ms': CHANNEL_RECONNECT_MS,
    'grpc.enable_retries': 0,
    // Or a write would be called done when it is remembered for a retry, and its frame's memory be used again.
    'grpc.per_rpc_retry_buffer_size': 0,
    // Or plain text would leave the machine by way of `http_proxy`; and a receiver is at the address that was named.
    'grpc.enable_http_proxy': 0,
    // Groups do not share a connection: a busy one would hold up the others' acknowledgements.
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
    ...options,
  });
}
