/**
 * The watermarks that a session shows, held against what the model has really seen. The sessions assert the order of
 * their own marks; this does not rely on it, and knows more: no mark is above what was captured, sent, taken in or made
 * durable (R4, R5).
 */
import { strict as assert } from 'node:assert';
import type { Watermarks } from '../../proto/watermarks.js';

/** The highest LSNs of a whole history, whoever gave or got them: nothing that is claimed may be above. */
export class Reached {
  /** Given to a record by any host. */
  captured = 0n;
  /** Of a frame that came to any receiver. */
  received = 0n;
  /** On the store's stable storage at any time, also of a store that was later replaced by a copy. */
  durable = 0n;

  /** A generation begins above every LSN that was reserved: those below are nobody's, and all marks begin there. */
  begin(firstLsn: bigint): void {
    for (const mark of ['captured', 'received', 'durable'] as const) this.raise(mark, firstLsn - 1n);
  }
  raise(mark: 'captured' | 'received' | 'durable', lsn: bigint): void {
    if (lsn > this[mark]) this[mark] = lsn;
  }
}

function checkOrder(who: string, { applied, durable, received, shipped, captured }: Watermarks): void {
  const marks = [applied, durable, received, shipped, captured];
  marks.forEach((mark, index) => {
    const above = marks[index + 1] ?? captured;
    assert(
      mark <= above,
      `${who}: applied ≤ durable ≤ received ≤ shipped ≤ captured, not ${marks.join(', ')}`,
    );
  });
}

function checkMost(who: string, mark: string, claimed: bigint, real: bigint): void {
  assert(claimed <= real, `${who} claims that ${claimed} is ${mark}, but only ${real} is`);
}

/** What the model of an agent's process knows. */
export interface AgentModel {
  /** The last LSN that its capture group gave; null without a group. */
  captured: bigint | null;
  /** On the present connection, or where that began; null while nothing is shipped. */
  shipped: bigint | null;
}

export function checkAgentMarks(marks: Watermarks, model: AgentModel, reached: Reached): void {
  checkOrder('agent', marks);
  checkMost('agent', 'captured', marks.captured, reached.captured);
  checkMost('agent', 'received', marks.received, max(reached.received, reached.durable));
  checkMost('agent', 'durable', marks.durable, reached.durable);
  if (model.shipped === null) return;
  if (model.captured !== null) checkMost('agent', 'captured', marks.captured, model.captured);
  assert(marks.shipped === model.shipped, `agent: ${marks.shipped} is shipped, ${model.shipped} was sent`);
}

/** What the model of a receiver knows of a session that is open. */
export interface ReceiverModel {
  /** The last LSN that it gave to the store to append, or where the stream goes on. */
  received: bigint;
  durable: bigint;
  orderedFrom: bigint | null;
  /** The first LSN of the generation. */
  first: bigint;
}

export function checkReceiverMarks(marks: Watermarks, model: ReceiverModel, reached: Reached): void {
  checkOrder('receiver', marks);
  checkMost('receiver', 'captured', marks.captured, reached.captured);
  checkMost('receiver', 'durable', marks.durable, model.durable);
  assert(
    marks.received === model.received,
    `receiver: ${marks.received} is received, ${model.received} was given to the store`,
  );
  assert(
    marks.applied === model.first - 1n || (model.orderedFrom !== null && model.orderedFrom <= marks.applied),
    `receiver: ${marks.applied} is offered, ordered from ${model.orderedFrom ?? 'nowhere'}`,
  );
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
