/** The named maxima of an agent's session. The simulator hands in small ones, so that each of them is reached. */
import { strict as assert } from 'node:assert';

export interface SessionLimits {
  /** Bytes handed to the transport whose write callback has not come yet. More only costs memory and latency. */
  unsentBytesMax: number;
  /** Bytes of frames sent and not acknowledged as durable. */
  unackedBytesMax: number;
  /** LSNs reserved on stable storage ahead of use; one write of the state file pays for so many records. */
  lsnReserve: bigint;
  /** One read of an initial sync, bytes. */
  pieceBytes: number;
  /** One HashRequest of a resync, bytes. Not above the receiver's hashBytesMax. */
  hashBytes: number;
  /** Bytes of sync data, before compression, sent and not yet durable in the base. */
  syncWindowBytes: number;
  /** What a resync compares first, bytes: one checksum each. */
  blockBytes: number;
  /** And where such a block differs: what of it is sent. Not below the receiver's hashBlockBytesMin. */
  fineBlockBytes: number;
  /** Reads of an initial sync, or comparisons of a resync, under way at once. */
  syncStepsMax: number;
  /** HashRequests under way at once. */
  hashRequestsMax: number;
  /** Checkpoints asked for and not yet answered. */
  checkpointsMax: number;
  /** Ticks without a word from a receiver that owes one. */
  silenceTicksMax: number;
  /** Refusals of the same records in a row, before they are given up for a new generation. */
  refusalsMax: number;
}

const MIB = 1024 * 1024;

export const SESSION_LIMITS: SessionLimits = {
  unsentBytesMax: 8 * MIB,
  unackedBytesMax: 32 * MIB,
  lsnReserve: 1n << 24n,
  pieceBytes: MIB,
  hashBytes: 4 * MIB,
  syncWindowBytes: 48 * MIB,
  blockBytes: 64 * 1024,
  fineBlockBytes: 4096,
  syncStepsMax: 8,
  hashRequestsMax: 8,
  checkpointsMax: 64,
  silenceTicksMax: 30,
  refusalsMax: 3,
};

/** Throws an AssertionError where the limits contradict each other. */
export function assertLimits(limits: SessionLimits): void {
  assert(limits.unsentBytesMax <= limits.unackedBytesMax, 'what is unsent is unacknowledged');
  assert(limits.hashBytes % limits.blockBytes === 0, 'what is asked for is compared in whole blocks');
  assert(limits.blockBytes % limits.fineBlockBytes === 0, 'a block is compared again in whole ones');
  // While nothing is on its way the receiver makes the base durable at a quarter of the least window: a piece must fit in beside the rest.
  assert(limits.pieceBytes * 4 <= limits.syncWindowBytes, 'the sync window holds several pieces');
}
