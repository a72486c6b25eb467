/** Checkpoints of a session that wait for their LSN to be durable and `ordered`. Pure; a part of the session machine. */
import type { Checkpoint, CheckpointRequest, ReceiverBody } from '../proto/replication.js';
import { isName } from '../service/settings.js';
import type { ReceiverAction } from './session_events.js';
import { NUMBER_MAX } from './session_limits.js';

/** What they need of the session. */
export interface CheckpointPort {
  emit(action: ReceiverAction): void;
  send(body: ReceiverBody): void;
}

export class CheckpointWaits {
  readonly #waiting: Checkpoint[] = [];
  readonly #keeping = new Set<string>();
  /** Asked for by an operator here. */
  readonly #asked = new Set<string>();

  constructor(
    private readonly countMax: number,
    private readonly port: CheckpointPort,
  ) {}

  ask(request: CheckpointRequest, isOpen: boolean): void {
    const { requestId } = request;
    if (!isOpen) this.#result(requestId, 'AGENT_AWAY', 'the agent sends nothing now');
    else if (this.#asked.size >= this.countMax)
      this.#result(requestId, 'CHECKPOINT_BUSY', 'too many at once');
    else {
      this.#asked.add(requestId);
      this.port.send({ checkpointRequest: request });
    }
  }

  /** The agent marks `checkpoint.lsn`. */
  add(checkpoint: Checkpoint, isOpen: boolean): void {
    const { requestId, name, lsn, timeNs } = checkpoint;
    if (!isName(name)) this.#answer(requestId, 'CHECKPOINT_INVALID', `"${name}" is no name`);
    else if (timeNs > NUMBER_MAX) this.#answer(requestId, 'CHECKPOINT_INVALID', `no clock shows ${timeNs}`);
    else if (!isOpen || lsn === 0n) this.#answer(requestId, 'POINT_GRADE', 'nothing is captured now');
    else if (this.#waiting.length + this.#keeping.size >= this.countMax) {
      this.#answer(requestId, 'CHECKPOINT_BUSY', `${this.countMax} checkpoints are under way`);
    } else this.#waiting.push(checkpoint);
  }

  /**
   * Keeps what can be kept, refuses what never will. `orderedSoonFromLsn`: the last sync is about to end there, so a
   * checkpoint at or after it is not lost yet.
   */
  advance(durableLsn: bigint, orderedFromLsn: bigint | null, orderedSoonFromLsn: bigint | null): void {
    for (const checkpoint of this.#waiting.filter(({ lsn }) => lsn <= durableLsn)) {
      const { requestId, lsn } = checkpoint;
      if (orderedFromLsn !== null && lsn >= orderedFromLsn) {
        this.#keeping.add(requestId);
        this.port.emit({ type: 'keepCheckpoint', checkpoint });
      } else if (orderedFromLsn === null && orderedSoonFromLsn !== null && lsn >= orderedSoonFromLsn) {
        continue;
      } else {
        this.#answer(requestId, 'POINT_GRADE', `LSN ${lsn} is not ordered`);
      }
      this.#waiting.splice(this.#waiting.indexOf(checkpoint), 1);
    }
  }

  kept(requestId: string, code: string, message: string): void {
    if (this.#keeping.delete(requestId)) this.#answer(requestId, code, message);
  }

  /** The generation has ended: what still waits is in none. */
  refuseWaiting(): void {
    for (const { requestId } of this.#waiting.splice(0)) {
      this.#answer(requestId, 'POINT_GRADE', 'the stream ended before');
    }
  }

  /** The session has ended. */
  lost(): void {
    for (const requestId of this.#asked) this.#result(requestId, 'SESSION_LOST', 'the session ended before');
    this.#asked.clear();
    this.#waiting.length = 0;
    this.#keeping.clear();
  }

  #answer(requestId: string, code: string, message: string): void {
    this.port.send({ checkpointDone: { requestId, code, message } });
    if (this.#asked.delete(requestId)) this.#result(requestId, code, message);
  }
  #result(requestId: string, code: string, message: string): void {
    this.port.emit({ type: 'checkpointResult', requestId, code, message });
  }
}
