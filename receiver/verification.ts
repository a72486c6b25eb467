/**
 * What an agent that verifies asks of the receiver: the content at an LSN, which may be on its way still. Pure; a part of
 * the session machine. Everything is answered in order, each once its LSN is durable.
 */
import type { ReceiverBody, VerifyDone, VerifyReply, VerifyRequest } from '../proto/replication.js';
import type { ReceiverAction, StoredVolume } from './session_events.js';
import { NUMBER_MAX, type SessionLimits } from './session_limits.js';

/** What it needs of its session. */
export interface VerificationPort {
  emit(action: ReceiverAction): void;
  send(body: ReceiverBody): void;
}
interface Waiting {
  lsn: bigint;
  action: ReceiverAction;
}

export class Verification {
  #waiting: Waiting[] = [];
  /** Asked of the daemon, and not answered. */
  #busy = 0;

  constructor(
    private readonly limits: SessionLimits,
    private readonly port: VerificationPort,
  ) {}

  /** Nothing that it asked for is unanswered. */
  get isIdle(): boolean {
    return this.#busy === 0;
  }

  /** Null, or what is wrong with it; likewise below. `volume`: the one that it names; `firstLsn`: of the generation. */
  request(request: VerifyRequest, volume: StoredVolume | undefined, firstLsn: bigint): string | null {
    const { limits } = this;
    const { lsn, offset, length, blockBytes } = request;
    const fault = this.#fault(request.volume, volume, lsn, firstLsn);
    if (fault !== null || volume === undefined) return fault;
    if (length < 1 || length > limits.hashBytesMax || offset + BigInt(length) > volume.info.size)
      return `VerifyRequest for ${length} bytes at ${offset}`;
    if (blockBytes < limits.hashBlockBytesMin || blockBytes % 512 !== 0)
      return `blocks of ${blockBytes} bytes`;
    this.#waiting.push({ lsn, action: { type: 'verify', request } });
    return null;
  }

  done(done: VerifyDone, volume: StoredVolume | undefined, firstLsn: bigint): string | null {
    const { beginLsn, endLsn, differingBytes, differingExtents, firstOffset } = done;
    const fault = this.#fault(done.volume, volume, endLsn, firstLsn);
    if (fault !== null || volume === undefined) return fault;
    const { size } = volume.info;
    const isNone = differingBytes === 0n && differingExtents === 0n;
    const isSome = differingExtents >= 1n && differingExtents <= differingBytes && differingBytes <= size;
    if (beginLsn > endLsn || firstOffset >= size || !(isNone || isSome)) return 'a VerifyDone that cannot be';
    this.#waiting.push({ lsn: endLsn, action: { type: 'storeVerified', done } });
    return null;
  }

  /** Asks for what can be answered by now. */
  advance(durableLsn: bigint): void {
    for (let next = this.#waiting[0]; next !== undefined && next.lsn <= durableLsn; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#busy += 1;
      this.port.emit(next.action);
    }
  }

  answered(reply: VerifyReply, isOpen: boolean): void {
    this.#busy -= 1;
    if (isOpen) this.port.send({ verifyReply: reply });
  }

  /** The generation ends: the agent does not wait for these any more. */
  drop(): void {
    this.#waiting = [];
  }

  #fault(number: number, volume: StoredVolume | undefined, lsn: bigint, firstLsn: bigint): string | null {
    if (volume === undefined || volume.syncedLsn === 0n) return `volume ${number} is not synced`;
    // In a generation without a record yet the last LSN is that before its first one.
    if (lsn < firstLsn - 1n || lsn > NUMBER_MAX) return `a comparison at LSN ${lsn}, outside the generation`;
    const isFull = this.#waiting.length + this.#busy >= this.limits.hashRequestsMax;
    return isFull ? `more than ${this.limits.hashRequestsMax} comparisons` : null;
  }
}
