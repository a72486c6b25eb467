/**
 * Stands between an agent and its receiver: hands every message on as it is, hears what is promised before it does, and can
 * cut the connection, or hold back what the agent says.
 */
import { Client, credentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { decodeAgentMessage, MESSAGE_BYTES_MAX, replicationService } from '../../proto/replication.js';
import { SessionEar, type PromisedAt } from './promises.js';

const { session } = replicationService;
const asIs = (bytes: Buffer): Buffer => bytes;
/** A receiver that is away: gRPC's UNAVAILABLE. */
const UNAVAILABLE = 14;
const OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.use_local_subchannel_pool': 1,
};

export class Relay {
  readonly promised: PromisedAt[] = [];
  private readonly server = new Server(OPTIONS);
  private readonly cuts = new Set<() => void>();
  /** What agents said and is held back, in order; null: nothing is. */
  private held: (() => void)[] | null = null;
  private address = '';

  /** Listens for an agent, whose receiver is at `receiver`. */
  static async start(receiver: string): Promise<Relay> {
    const relay = new Relay();
    const { path, requestStream, responseStream } = session;
    const bytes = { requestSerialize: asIs, requestDeserialize: asIs };
    const definition = { path, requestStream, responseStream, ...bytes };
    relay.server.addService(
      { session: { ...definition, responseSerialize: asIs, responseDeserialize: asIs } },
      { session: (stream: ServerDuplexStream<Buffer, Buffer>) => relay.serve(stream, receiver) },
    );
    const port = await new Promise<number>((resolve, reject) => {
      relay.server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    relay.address = `127.0.0.1:${port}`;
    return relay;
  }

  get listen(): string {
    return this.address;
  }

  /** Ends every session that there is, as a network does. */
  cut(): void {
    for (const cut of [...this.cuts]) cut();
  }

  /** From now on what agents say is heard, and does not arrive: their receiver lags behind. */
  hold(): void {
    this.held ??= [];
  }

  /** All of it arrives. */
  release(): void {
    const held = this.held ?? [];
    this.held = null;
    for (const handOn of held) handOn();
  }

  stop(): void {
    this.cut();
    this.server.forceShutdown();
  }

  private serve(agent: ServerDuplexStream<Buffer, Buffer>, receiver: string): void {
    const client = new Client(receiver, credentials.createInsecure(), OPTIONS);
    const upstream = client.makeBidiStreamRequest(session.path, asIs, asIs);
    const ear = new SessionEar((promised) => {
      this.promised.push({ ...promised, ns: process.hrtime.bigint() });
    });
    const cut = (): void => {
      if (!this.cuts.delete(cut)) return;
      upstream.cancel();
      client.close();
      if (!agent.destroyed) agent.emit('error', { code: UNAVAILABLE, details: 'cut' });
    };
    this.cuts.add(cut);
    agent.on('data', (bytes: Buffer) => {
      ear.agent(decodeAgentMessage(bytes));
      this.handOn(() => {
        if (this.cuts.has(cut) && !upstream.write(bytes)) agent.pause();
      });
    });
    upstream.on('drain', () => agent.resume());
    upstream.on('data', (bytes: Buffer) => {
      ear.receiver(session.responseDeserialize(bytes));
      if (!agent.write(bytes)) upstream.pause();
    });
    agent.on('drain', () => upstream.resume());
    agent.on('end', () => this.handOn(() => upstream.end()));
    agent.on('cancelled', cut);
    agent.on('error', () => undefined);
    upstream.on('error', cut);
    upstream.on('end', () => {
      this.cuts.delete(cut);
      agent.end();
      client.close();
    });
  }

  private handOn(message: () => void): void {
    if (this.held === null) message();
    else this.held.push(message);
  }
}
