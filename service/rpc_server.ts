/**
 * A gRPC server whose sockets are made by service/listen.ts, so that a control socket has its mode from birth, and
 * handlers that are plain async functions and generators which throw AfterimageErrors.
 */
import { once } from 'node:events';
import type { Http2Server } from 'node:http2';
import net from 'node:net';
import {
  Server,
  ServerCredentials,
  type ConnectionInjector,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerOptions,
  type ServerUnaryCall,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { AfterimageError } from '../proto/errors.js';
import { CONTROL_MESSAGE_BYTES_MAX } from '../proto/control.js';
import { listenTcp, listenUnix } from './listen.js';
import { localCaller, type PeerOf } from './local_caller.js';
import { statusOf } from './rpc_status.js';
import type { LoopbackAddress } from './settings.js';
import { uuidOf } from './tls_listener.js';

/** A connection without a call. grpc-js' own clients leave some behind (owned_credentials.ts). */
const IDLE_MS_MAX = 60_000;
/** For callers elsewhere: whoever goes without a word is found out about. */
export const KEEPALIVE: ServerOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
};

const WINDOW = 'grpc-node.flow_control_window';

/**
 * What a client may send before it hears of it, on each stream and on its connection (RFC 9113, 5.2). grpc-js obeys the option in
 * clients alone: its servers let 64 KiB be under way, which even on one machine costs as much again as sending it does, and is 1.3 MB/s
 * at 50 ms. test/service/rpc.test.ts tells when another grpc-js keeps its HTTP/2 servers elsewhere.
 */
function widen(server: Server, windowBytes: number): void {
  const { http2Servers } = server as unknown as { http2Servers: Map<Http2Server, unknown> };
  for (const http2Server of http2Servers.keys()) {
    http2Server.on('session', (session) => {
      session.settings({ initialWindowSize: windowBytes });
      session.setLocalWindowSize(windowBytes);
    });
  }
}

/** One server: services are added first, then it listens, on any number of sockets. */
export class RpcServer {
  private readonly server: Server;
  private readonly injector: ConnectionInjector;
  private readonly listeners: net.Server[] = [];
  private readonly connections = new Set<net.Socket>();

  /** Its limits are those of a control socket; `options` add to or replace message limits, keepalive and the like. */
  constructor(options: ServerOptions = {}) {
    this.server = new Server({
      'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES_MAX,
      'grpc.max_connection_idle_ms': IDLE_MS_MAX,
      ...options,
    });
    this.injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    const windowBytes = options[WINDOW];
    if (typeof windowBytes === 'number') widen(this.server, windowBytes);
  }

  add(service: ServiceDefinition, handlers: UntypedServiceImplementation): void {
    this.server.addService(service, handlers);
  }

  /** `peerOf` tells who calls (CallContext.address); without it nobody knows. Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  async listenUnix(socket: string, peerOf: PeerOf | null = null): Promise<void> {
    const listener = net.createServer((connection) => {
      // What gRPC asks a connection for, and a Unix socket has not.
      if (peerOf !== null)
        Object.defineProperty(connection, 'remoteAddress', { value: localCaller(connection, peerOf) });
      this.take(connection);
    });
    await listenUnix(listener, socket);
    this.listeners.push(listener);
  }

  /** Gives the address with the port that was chosen for port 0. Errors: LISTEN_BUSY, LISTEN_FAILED. */
  async listenLoopback(address: LoopbackAddress): Promise<LoopbackAddress> {
    const listener = net.createServer({ noDelay: true }, (connection) => this.take(connection));
    const bound = await listenTcp(listener, address);
    this.listeners.push(listener);
    return bound;
  }

  /** Serves a connection that was made elsewhere. */
  take(connection: net.Socket): void {
    this.connections.add(connection);
    connection.once('close', () => this.connections.delete(connection));
    this.injector.injectConnection(connection);
  }

  /** Takes no more calls, gives those under way `graceMs` to end, then cuts them off. */
  async stop(graceMs: number): Promise<void> {
    const closed = this.listeners.map(async (listener) => {
      const close = once(listener, 'close');
      listener.close();
      await close;
    });
    const force = setTimeout(() => this.cutOff(), graceMs);
    await new Promise<void>((resolve) => this.server.tryShutdown(() => resolve()));
    clearTimeout(force);
    this.cutOff();
    await Promise.all(closed);
  }

  /** grpc-js knows sessions only: a connection that has not spoken yet would keep its listener open. */
  private cutOff(): void {
    this.server.forceShutdown();
    this.injector.destroy();
    for (const connection of this.connections) connection.destroy();
  }
}

/** What a handler may know about its call. */
export interface CallContext {
  /** Aborted when the caller went away, cancelled, or its deadline passed. */
  readonly signal: AbortSignal;
  /** Whom the caller's certificate names, a UUID; null: it came without one, by a socket of this machine. */
  readonly peer: string | null;
  /** "192.0.2.7:51324"; of a Unix socket "local root" (service/local_caller.ts), or "unknown". */
  readonly address: string;
}

/** Whom the certificate names that a call came with, a UUID. */
export function peerOf(call: Pick<Caller, 'getAuthContext'>): string | null {
  const { subjectaltname } = call.getAuthContext().sslPeerCertificate ?? {};
  return uuidOf(subjectaltname);
}

type Caller = Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext' | 'getPeer'>;

function contextOf(call: Caller, signal: AbortSignal): CallContext {
  return { signal, peer: peerOf(call), address: call.getPeer() };
}

/** A unary handler from an async function. */
export function unary<Request, Response>(
  handle: (request: Request, context: CallContext) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const cancelled = new AbortController();
    call.on('cancelled', () => cancelled.abort());
    // A handler that throws before it gives its promise must not throw into gRPC, which knows no codes.
    const answer = async (): Promise<Response> => handle(call.request, contextOf(call, cancelled.signal));
    answer().then(
      (response) => callback(null, response),
      (thrown: unknown) => callback(statusOf(thrown)),
    );
  };
}

/** A server-streaming handler from an async generator, which is ended (`return`) when the caller goes away. */
export function serverStream<Request, Response>(
  handle: (request: Request, context: CallContext) => AsyncGenerator<Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const cancelled = new AbortController();
    call.on('cancelled', () => cancelled.abort());
    const send = async (): Promise<void> => {
      for await (const response of handle(call.request, contextOf(call, cancelled.signal))) {
        if (cancelled.signal.aborted) return;
        if (!call.write(response)) await drained(call, cancelled.signal);
      }
    };
    send().then(
      () => call.end(),
      (thrown: unknown) => call.emit('error', statusOf(thrown)),
    );
  };
}

/** Handlers of a service whose every call ends with the error that `refusal` gives. */
export function refusing(
  service: ServiceDefinition,
  refusal: (call: Caller) => AfterimageError,
): UntypedServiceImplementation {
  const handlers: UntypedServiceImplementation = {};
  for (const [name, { requestStream, responseStream }] of Object.entries(service)) {
    const fail = (call: Caller & NodeJS.EventEmitter): void =>
      void call.emit('error', statusOf(refusal(call)));
    handlers[name] =
      requestStream || responseStream
        ? fail
        : (call: Caller, callback: sendUnaryData<unknown>) => callback(statusOf(refusal(call)));
  }
  return handlers;
}

function drained(call: NodeJS.EventEmitter, cancelled: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off('drain', done);
      cancelled.removeEventListener('abort', done);
      resolve();
    };
    call.once('drain', done);
    cancelled.addEventListener('abort', done, { once: true });
    if (cancelled.aborted) done();
  });
}
