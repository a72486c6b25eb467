/** One attempt to connect to the receiver and, if it succeeds, its gRPC stream. */
import { status, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';
import { AfterimageError } from '../proto/errors.js';
import type { AgentMessage, ReceiverMessage } from '../proto/replication.js';
import { isOfStranger, reasonOf } from '../service/rpc_status.js';

type Call = ClientDuplexStream<AgentMessage, ReceiverMessage>;

/** Ticks without progress after which a connection is given up; for the first answer more after each attempt without one. */
const STUCK_TICKS_MIN = 5;
const STUCK_TICKS_MAX = 30;

export class Connection {
  readonly ending = new AbortController();
  readonly ended: Promise<AfterimageError>;
  private resolveEnded!: (error: AfterimageError) => void;
  private call: Call | null = null;
  /** Sends whose callback has not come; grpc-js never calls those that a lost connection left in its queues. */
  private readonly waiting = new Set<(error: AfterimageError) => void>();
  private lost: AfterimageError | null = null;
  private isAnswered = false;
  /** Since something was taken or brought. */
  private stuckTicks = 0;

  /** `attempt`: how many connections before it were without an answer. */
  constructor(private readonly attempt: number) {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
  }

  open(call: Call, received: (message: ReceiverMessage) => void): void {
    this.call = call;
    call.on('data', (message: ReceiverMessage) => {
      this.isAnswered = true;
      this.stuckTicks = 0;
      if (this.lost === null) received(message);
    });
    call.on('end', () => this.end(new AfterimageError('SESSION_LOST', 'the receiver ended the session')));
    call.on('error', (error: ServiceError) => this.end(this.lossOf(error)));
  }

  send(message: AgentMessage): Promise<void> {
    const { call, lost } = this;
    if (lost !== null) return Promise.reject(lost);
    if (call === null) return Promise.reject(new AfterimageError('SESSION_LOST', 'not connected yet'));
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      call.write(message, (error?: Error | null) => {
        if (!this.waiting.delete(reject)) return;
        this.stuckTicks = 0;
        if (error) reject(new AfterimageError('SESSION_LOST', error.message, { cause: error }));
        else resolve();
      });
    });
  }

  /**
   * A second has passed. A connection that owes something, an answer or that it takes what it was given, and makes no progress,
   * is given up. Nobody else may notice that it is gone: where TLS is used and it is a write that finds the reset, Node
   * (20.20, TLSWrap::EncOut()) tells nobody of the error, and its HTTP/2 session waits for that write with reading stopped.
   * A slow link makes progress; a receiver whose disk hangs is found to be away, and asked again ever more slowly.
   */
  tick(): void {
    if (this.call === null || (this.isAnswered && this.waiting.size === 0)) {
      this.stuckTicks = 0;
      return;
    }
    this.stuckTicks += 1;
    const ticksMax = this.isAnswered
      ? STUCK_TICKS_MIN
      : Math.min(STUCK_TICKS_MIN * 2 ** this.attempt, STUCK_TICKS_MAX);
    if (this.stuckTicks < ticksMax) return;
    this.end(
      this.isAnswered
        ? new AfterimageError('SESSION_LOST', `the connection has taken nothing for ${ticksMax} s`)
        : new AfterimageError('RECEIVER_UNREACHABLE', `no answer within ${ticksMax} s`),
    );
  }

  /** The stream is gone: nothing of it will use a buffer any more, and nobody need wait. */
  end(error: AfterimageError): void {
    if (this.lost !== null) return;
    this.lost = error;
    this.call?.cancel();
    this.call?.destroy();
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
