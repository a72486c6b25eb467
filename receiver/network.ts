/** All by which anybody reaches the receiver: the front door with its servers, plain TCP on loopback where that is wanted, the control socket. */
import {
  accessService,
  ENROLLMENT_MESSAGE_BYTES_MAX,
  enrollmentService,
  identityService,
} from '../proto/access.js';
import { receiverControlService, type ReceiverStatus } from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { healthService } from '../proto/health.js';
import { replicationService } from '../proto/replication.js';
import { peerCredentials } from '../native/index.js';
import type { AuditLog } from '../service/audit_log.js';
import { countError } from '../service/error_counts.js';
import type { Log } from '../service/log.js';
import { KEEPALIVE, peerOf, refusing, RpcServer } from '../service/rpc.js';
import { formatAddress } from '../service/settings.js';
import { accessHandlers } from './access.js';
import type { Catalog } from './catalog/catalog.js';
import type { ReceiverConfig } from './config.js';
import { controlHandlers, type ControlParts } from './control.js';
import { enrollmentHandlers, identityHandlers } from './enrollment.js';
import { FrontDoor } from './front_door.js';
import { Guard, identifyLocal, identifyOperators, type Identify } from './guard.js';
import { Health } from './health.js';
import type { Identities } from './identities.js';
import type { IngestParts, ReplicationStream } from './ingest.js';
import { refuse, ReplicationServer } from './server.js';
import { receiverStatus, type ListenAddresses } from './status.js';

/** Calls at once on one connection of a stranger, or of an operator. */
const STRANGER_STREAMS_MAX = 2;
const OPERATOR_STREAMS_MAX = 32;

export interface NetworkParts {
  catalog: Catalog;
  identities: Identities;
  audit: AuditLog;
  /** Of the store, a UUID. */
  store: string;
  replication: IngestParts;
  control: Omit<ControlParts, 'addresses'>;
  /** Streams of agents at once. */
  sessionsMax: number;
  /** Between looks at who of those who are connected has gone. */
  sweepMs: number;
  log: Log;
}

const monotonicMs = (): number => performance.now();

export class Network {
  private readonly replication: ReplicationServer;
  private readonly operators = new RpcServer({
    ...KEEPALIVE,
    'grpc.max_concurrent_streams': OPERATOR_STREAMS_MAX,
  });
  private readonly strangers = new RpcServer({
    ...KEEPALIVE,
    'grpc.max_receive_message_length': ENROLLMENT_MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': ENROLLMENT_MESSAGE_BYTES_MAX,
    'grpc.max_concurrent_streams': STRANGER_STREAMS_MAX,
  });
  private readonly local = new RpcServer();
  private readonly door: FrontDoor;
  private readonly health = new Health();
  /** When nobody is inside any more. */
  private closed: Promise<void> = Promise.resolve();
  private addresses: ListenAddresses = { listen: '', listenPlain: '' };

  constructor(private readonly parts: NetworkParts) {
    const { identities, audit, log } = parts;
    this.replication = new ReplicationServer(
      parts.replication,
      { identities, audit, nowMs: monotonicMs },
      parts.sessionsMax,
    );
    const servers = { host: this.replication.joined, operator: this.operators, stranger: this.strangers };
    this.door = new FrontDoor({ identities, servers, sweepMs: parts.sweepMs, log });
    this.serveStrangers();
    this.serveOperators();
  }

  /** How the receiver is doing. */
  status(): Promise<ReceiverStatus> {
    return receiverStatus({ ...this.parts.control, addresses: () => this.addresses });
  }

  /** Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  async listen({ listen, listenPlain, control }: ReceiverConfig): Promise<ListenAddresses> {
    const plain = listenPlain === null ? '' : formatAddress(await this.replication.listenPlain(listenPlain));
    this.addresses = { listen: formatAddress(await this.door.listen(listen)), listenPlain: plain };
    await this.local.listenUnix(control, peerCredentials);
    return this.addresses;
  }

  /** Of the front door. */
  connectionCounts(): ReturnType<FrontDoor['connectionCounts']> {
    return this.door.connectionCounts();
  }

  /** Ends every session, and those calls that are not done within `graceMs`. Replication first, so that its end can be looked at. */
  async stopReplication(graceMs: number): Promise<void> {
    this.closed = this.door.close();
    await this.replication.stop(graceMs);
  }
  async stop(graceMs: number): Promise<void> {
    await Promise.all([this.operators, this.strangers, this.local].map((server) => server.stop(graceMs)));
    await this.closed;
  }

  /** Nothing new is begun from now on, and whoever asks is told so. */
  drain(): void {
    this.health.drain();
  }

  private serveOperators(): void {
    for (const server of [this.replication.joined, this.operators, this.local])
      server.add(healthService, this.health.handlers());
    const { catalog, identities, audit, log } = this.parts;
    const control = { ...this.parts.control, addresses: () => this.addresses };
    const entrances: [RpcServer, Identify][] = [
      [this.operators, identifyOperators(identities)],
      [this.local, identifyLocal],
    ];
    for (const [server, identify] of entrances) {
      const guard = new Guard(identify, audit, log);
      server.add(receiverControlService, controlHandlers(control, guard));
      server.add(accessService, accessHandlers({ catalog, identities, door: this.door }, guard));
    }
    this.operators.add(identityService, identityHandlers({ identities, audit, nowMs: monotonicMs }));
  }

  /** They can join, and are told why they can do nothing else. */
  private serveStrangers(): void {
    const { identities, store, audit, log } = this.parts;
    // Counted, and not logged: whoever likes can have it said as often as they like.
    const refusal = (call: Parameters<typeof peerOf>[0]): AfterimageError => {
      const error = reason(call);
      countError(error);
      return error;
    };
    const reason = (call: Parameters<typeof peerOf>[0]): AfterimageError => {
      const uuid = peerOf(call);
      try {
        if (uuid !== null) identities.known(uuid);
      } catch (thrown) {
        return toAfterimageError(thrown);
      }
      const message =
        'no certificate was shown, or one that has expired, or that another authority has signed';
      return new AfterimageError('IDENTITY_REFUSED', message);
    };
    const cutOff = (uuid: string): void => this.door.cutOff(uuid);
    this.strangers.add(
      enrollmentService,
      enrollmentHandlers({ identities, store, cutOff, nowMs: monotonicMs, audit, log }),
    );
    for (const service of [identityService, receiverControlService, accessService, healthService])
      this.strangers.add(service, refusing(service, refusal));
    this.strangers.add(replicationService, {
      session: (stream: ReplicationStream) => refuse(stream, refusal(stream)),
    });
  }
}
