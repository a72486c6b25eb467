/** The replication servers: one takes streams from agents by TLS, another, if it is wanted, by plain TCP on loopback. */
import { identityService } from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import { MESSAGE_BYTES_MAX, replicationService } from '../proto/replication.js';
import { KEEPALIVE, peerOf, RpcServer } from '../service/rpc.js';
import type { LoopbackAddress } from '../service/settings.js';
import { identityHandlers, type EnrollmentParts } from './enrollment.js';
import { Ingest, type IngestParts, type ReplicationStream } from './ingest.js';

const FLOW_CONTROL_BYTES = 8 * 1024 * 1024;
/** Streams at once of one host; one more is refused. */
const SESSIONS_OF_HOST_MAX = 128;
/** Calls at once on one connection: a session, and a renewal. */
const STREAMS_MAX = 8;

export class ReplicationServer {
  /** For hosts that have joined. */
  readonly joined = this.server();
  private readonly plain = this.server();
  private readonly sessions = new Map<Ingest, string | null>();
  private isStopping = false;

  constructor(
    private readonly parts: IngestParts,
    identity: Pick<EnrollmentParts, 'identities' | 'audit' | 'nowMs'>,
    private readonly sessionsMax: number,
  ) {
    this.joined.add(replicationService, {
      session: (stream: ReplicationStream) => {
        const peer = peerOf(stream);
        // No connection without one is taken there.
        if (peer === null)
          refuse(stream, new AfterimageError('IDENTITY_MISSING', 'no certificate was shown'));
        else this.serve(stream, peer);
      },
    });
    this.joined.add(identityService, identityHandlers(identity));
    this.plain.add(replicationService, {
      session: (stream: ReplicationStream) => this.serve(stream, null),
    });
  }

  /** Without TLS, for whoever is on this machine. Gives the address with its port. Errors: LISTEN_BUSY, LISTEN_FAILED. */
  listenPlain(address: LoopbackAddress): Promise<LoopbackAddress> {
    return this.plain.listenLoopback(address);
  }

  /** Ends every session, waits for what is under way, and stops listening. */
  async stop(graceMs: number): Promise<void> {
    this.isStopping = true;
    const stopped = [this.joined.stop(graceMs), this.plain.stop(graceMs)];
    await Promise.all([...this.sessions.keys()].map((session) => session.drain()));
    await Promise.all(stopped);
  }

  private server(): RpcServer {
    return new RpcServer({
      ...KEEPALIVE,
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_concurrent_streams': STREAMS_MAX,
      'grpc-node.flow_control_window': FLOW_CONTROL_BYTES,
    });
  }

  private serve(stream: ReplicationStream, peer: string | null): void {
    if (this.isStopping) return void stream.end();
    const ofPeer = [...this.sessions.values()].filter((other) => other !== null && other === peer).length;
    if (this.sessions.size >= this.sessionsMax)
      return this.tooMany(stream, `${this.sessionsMax} sessions are here`);
    if (ofPeer >= SESSIONS_OF_HOST_MAX) return this.tooMany(stream, `this host has ${ofPeer} sessions`);
    const session = new Ingest(this.parts, stream, peer);
    this.sessions.set(session, peer);
    void session.ended.then(() => this.sessions.delete(session));
  }

  private tooMany(stream: ReplicationStream, message: string): void {
    const error = new AfterimageError('SESSION_LIMIT', message);
    this.parts.log.warn({ code: error.code, peer: stream.getPeer() }, 'session refused');
    refuse(stream, error);
  }
}

/** Tells an agent why it gets no session. */
export function refuse(stream: ReplicationStream, { code, message, retryable }: AfterimageError): void {
  // What it says meanwhile is nobody's.
  stream.on('error', () => undefined);
  stream.resume();
  stream.write({ sequence: 0, refused: { code, message, retryable } });
  stream.end();
}
