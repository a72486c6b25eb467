/** Checkpoints under way at the agent: asked for here, or by an operator at the receiver. */
import type { AgentBody, CheckpointDone, CheckpointRequest } from '../proto/replication.js';
import type { AgentAction } from './session_events.js';

/** What they need of the session. */
export interface CheckpointPort {
  emit(action: AgentAction): void;
  send(body: AgentBody): void;
}

export class CheckpointRequests {
  readonly #pending = new Map<string, 'agent' | 'receiver'>();

  constructor(
    private readonly countMax: number,
    private readonly port: CheckpointPort,
  ) {}

  /** Asked for at the agent. */
  requested(requestId: string, name: string, isStreaming: boolean): void {
    if (!isStreaming) {
      this.#result(requestId, 'RECEIVER_UNREACHABLE', 'no session with the receiver');
    } else if (this.#pending.size >= this.countMax) {
      this.#result(requestId, 'CHECKPOINT_BUSY', `${this.countMax} checkpoints are under way`);
    } else {
      this.#readPosition(requestId, name, 'agent');
    }
  }

  /** Asked for at the receiver. A request that finds no room is answered by LSN 0, which cannot be kept. */
  asked({ requestId, name }: CheckpointRequest, isStreaming: boolean): void {
    if (isStreaming && this.#pending.size < this.countMax) this.#readPosition(requestId, name, 'receiver');
    else this.port.send({ checkpoint: { requestId, name, lsn: 0n, timeNs: 0n } });
  }

  positionRead(position: { requestId: string; name: string; lsn: bigint | null; timeNs: bigint }): void {
    if (!this.#pending.has(position.requestId)) return; // asked on a connection that is gone
    const { requestId, name, lsn, timeNs } = position;
    this.port.send({ checkpoint: { requestId, name, lsn: lsn ?? 0n, timeNs } });
  }

  done({ requestId, code, message }: CheckpointDone): void {
    if (this.#pending.get(requestId) === 'agent') this.#result(requestId, code, message);
    this.#pending.delete(requestId);
  }

  /** The connection is gone, and with it the answers. */
  lost(): void {
    for (const [requestId, origin] of this.#pending) {
      if (origin === 'agent') this.#result(requestId, 'SESSION_LOST', 'the session ended before the answer');
    }
    this.#pending.clear();
  }

  #readPosition(requestId: string, name: string, origin: 'agent' | 'receiver'): void {
    this.#pending.set(requestId, origin);
    this.port.emit({ type: 'readPosition', requestId, name });
  }
  #result(requestId: string, code: string, message: string): void {
    this.port.emit({ type: 'checkpointResult', requestId, code, message });
  }
}
