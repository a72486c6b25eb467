/** What a verification asks the receiver, by way of the session: each question gets one answer, whatever happens. Pure. */
import type { AgentBody, VerifyDone, VerifyReply, VerifyRequest } from '../proto/replication.js';
import type { AgentAction } from './session_events.js';

export type VerifyQuestion = { verifyRequest: VerifyRequest } | { verifyDone: VerifyDone };

/** What it needs of the session. */
export interface VerifyPort {
  emit(action: AgentAction): void;
  send(body: AgentBody): void;
}

export class VerifyExchange {
  readonly #pending = new Set<number>();

  constructor(private readonly port: VerifyPort) {}

  /** `unavailable`: why the receiver cannot be asked now, "" when it can. */
  asked(question: VerifyQuestion, unavailable: string): void {
    const { id } = 'verifyRequest' in question ? question.verifyRequest : question.verifyDone;
    if (unavailable !== '') return this.#answer(id, 'VERIFY_UNAVAILABLE', unavailable);
    this.#pending.add(id);
    this.port.send(question);
  }

  /** What nobody waits for any more is about a generation that has ended. */
  replied({ id, code, message, hashes }: VerifyReply, hashKey: Buffer): void {
    if (!this.#pending.delete(id)) return;
    this.port.emit({ type: 'verifyAnswered', id, code, message, hashes, hashKey });
  }

  /** The connection is gone, or the generation has ended, and with it the answers. */
  lost(): void {
    for (const id of this.#pending) this.#answer(id, 'SESSION_LOST', 'the session ended before the answer');
    this.#pending.clear();
  }

  #answer(id: number, code: string, message: string): void {
    const none = Buffer.alloc(0);
    this.port.emit({ type: 'verifyAnswered', id, code, message, hashes: none, hashKey: none });
  }
}
