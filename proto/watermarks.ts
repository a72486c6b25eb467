/** How far the records of one generation have come, in LSNs. Held by both session machines. */
import { strict as assert } from 'node:assert';

/**
 * Within a generation, on both sides and at every instant:
 *
 *     applied ≤ durable ≤ received ≤ shipped ≤ captured
 *
 * A side sets the marks that it cannot see to what it can conclude: the receiver knows of nothing shipped that it has
 * not received, and the agent has heard of nothing received that it has not shipped.
 */
export interface Watermarks {
  /** Agent: forgotten by the ring. Receiver: offered by the timeline as recovery points. */
  applied: bigint;
  /** On stable storage at the receiver (R4). */
  durable: bigint;
  /** Taken in by the receiver, on their way to its disk. */
  received: bigint;
  /** Handed to the transport on the present connection. */
  shipped: bigint;
  /** Given to a record by the agent's sequencer. */
  captured: bigint;
}

/** Throws an AssertionError: a defect of this program, never the fault of a peer. */
export function assertWatermarks(marks: Watermarks): void {
  const { applied, durable, received, shipped, captured } = marks;
  assert(
    applied <= durable && durable <= received && received <= shipped && shipped <= captured,
    `watermarks out of order: applied ${applied}, durable ${durable}, received ${received}, shipped ${shipped}, captured ${captured}`,
  );
}

/** The higher of two positions, or the later of two times. */
export function higher(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** All marks at one LSN: where a stream begins, or goes on. */
export function watermarksAt(lsn: bigint): Watermarks {
  return { applied: lsn, durable: lsn, received: lsn, shipped: lsn, captured: lsn };
}
