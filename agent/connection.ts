/** One attempt to connect to the receiver and, if it succeeds, its gRPC stream. */
import { status, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';
import { AfterimageError } from '../proto/errors.js';
import type { OutgoingMessage, ReceiverMessage } from '../proto/replication.js';
import { isOfStranger, reasonOf } from '../service/rpc_status.js';

type Call = ClientDuplexStream<OutgoingMessage, ReceiverMessage>;

export class Connection {
  readonly ending = new AbortController();
  readonly ended: Promise<AfterimageError>;
  private resolveEnded!: (error: AfterimageError) => void;
  private call: Call | null = null;
  /** Sends whose callback has not come; grpc-js never calls those that a lost connection left in its queues. */
  private readonly waiting = new Set<(error: AfterimageError) => void>();
  /** Frames and pieces among them, which are sent from where they lie. */
  private lentWaiting = 0;
  private cutOff: () => void = () => undefined;
  private lost: AfterimageError | null = null;
  private isAnswered = false;

  constructor() {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
  }

  /** `cutOff` ends its transport at once, whatever that has not sent. */
  open(call: Call, received: (message: ReceiverMessage) => void, cutOff: () => void): void {
    this.call = call;
    this.cutOff = cutOff;
    call.on('data', (message: ReceiverMessage) => {
      this.isAnswered = true;
      if (this.lost === null) received(message);
    });
    call.on('end', () => this.end(new AfterimageError('SESSION_LOST', 'the receiver ended the session')));
    call.on('error', (error: ServiceError) => this.end(this.lossOf(error)));
  }

  send(message: OutgoingMessage): Promise<void> {
    const { call, lost } = this;
    if (lost !== null) return Promise.reject(lost);
    if (call === null) return Promise.reject(new AfterimageError('SESSION_LOST', 'not connected yet'));
    const lent = 'frame' in message || 'piece' in message ? 1 : 0;
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      this.lentWaiting += lent;
      call.write(message, (error?: Error | null) => {
        if (!this.waiting.delete(reject)) return;
        this.lentWaiting -= lent;
        if (error) reject(new AfterimageError('SESSION_LOST', error.message, { cause: error }));
        else resolve();
      });
    });
  }

  /** Its transport is gone. */
  reset(): void {
    const code = this.isAnswered ? 'SESSION_LOST' : 'RECEIVER_UNREACHABLE';
    this.end(new AfterimageError(code, 'the connection was reset'));
  }

  /** The stream is gone: nothing of it will use a buffer any more, and nobody need wait. */
  end(error: AfterimageError): void {
    if (this.lost !== null) return;
    this.lost = error;
    this.call?.cancel();
    this.call?.destroy();
    // What a transport still holds of them would be sent as whatever lies there by then.
    if (this.lentWaiting > 0) this.cutOff();
    this.ending.abort();
    for (const reject of this.waiting) reject(error);
    this.waiting.clear();
    this.resolveEnded(error);
  }

  private lossOf(error: ServiceError): AfterimageError {
    const away = error.code === status.UNAVAILABLE && !this.isAnswered;
    const reason = reasonOf(error.details || error.message);
    if (away && isOfStranger(error.details))
      return new AfterimageError(
        'AUTHORITY_MISMATCH',
        `who answers is not the receiver that this host has joined: ${reason}`,
        { cause: error },
      );
    return new AfterimageError(away ? 'RECEIVER_UNREACHABLE' : 'SESSION_LOST', reason, { cause: error });
  }
}
