/** Why a stream ended although nobody had asked for it, told as soon as it can be known, and once. */
import type { AgentAction } from './session_events.js';

const REASONS: Readonly<Record<string, string>> = {
  RING_FULL: 'the ring is full',
  SPOOL_FULL: 'ring and spool are full',
  SPOOL_IO: 'the ring is full, and the spool fails',
  SPOOL_CORRUPT: 'what was spooled cannot be read',
  VOLUME_GROWN: 'a volume has grown',
  CLOSED: 'the volumes, or what is known of them, have changed',
  LSN_CEILING: 'the LSNs that are reserved in the state are used up',
  BACKING_FAILED: 'a backing failed, and what it holds is not known',
};

export class Interruption {
  #told: { generation: bigint; code: string } | null = null;

  constructor(private readonly emit: (action: AgentAction) => void) {}

  /** The end of `generation` was pulled, or it was given up. */
  ended(generation: bigint, code: string): void {
    if (this.#told?.generation === generation && this.#told.code === code) return;
    this.#told = { generation, code };
    const reason = REASONS[code] ?? 'the receiver cannot go on with the stream';
    const message = `${reason}: production goes on, and what it writes is in no record until a new generation begins`;
    this.emit({ type: 'interrupted', generation, code, message });
  }

  /**
   * The native group has closed the stream of `generation`. Its end is pulled after all that ring and spool hold: not
   * before the receiver is back.
   */
  seen(generation: bigint, reason: string): void {
    if (this.#told?.generation === generation) return;
    if (reason !== 'CLOSED') this.ended(generation, reason);
  }
}
