/**
 * Whether the dirty log of an agent can be believed: what it does not mark is equal at both ends only if it is the log that
 * was told of last, or grew out of it, and the journal still has all that its unmarking rests on. Pure.
 */
import type { DirtyLogPosition } from '../proto/replication.js';

/** What is remembered of a volume's log between sessions. */
export interface KnownLog {
  /** 0n: none was told of. */
  logId: bigint;
  sequence: bigint;
  /** Only a comparison of the whole volume makes it synced in another generation. */
  whole: boolean;
}

export const UNKNOWN_LOG: KnownLog = { logId: 0n, sequence: 0n, whole: true };

/** After a Hello: `claim` is what it said of the volume, `durableLsn` where the journal ends. */
export function logAtHello(
  known: KnownLog,
  claim: DirtyLogPosition | undefined,
  durableLsn: bigint,
): KnownLog {
  if (claim === undefined || claim.id === 0n) return UNKNOWN_LOG;
  const { id, sequence, basisLsn } = claim;
  // Fewer changes than were told of: a copy of the agent's state, older than its backing or the journal.
  const isSuccessor = id === known.logId && sequence >= known.sequence;
  return { logId: id, sequence, whole: known.whole || !isSuccessor || basisLsn > durableLsn };
}

/** After a heartbeat. */
export function logAtHeartbeat(known: KnownLog, { id, sequence }: DirtyLogPosition): KnownLog {
  if (id === 0n) return UNKNOWN_LOG;
  const isSuccessor = id === known.logId && sequence >= known.sequence;
  return { logId: id, sequence, whole: known.whole || !isSuccessor };
}
