/** The named maxima of a receiver's session. The simulator hands in small ones, so that each of them is reached. */
export interface SessionLimits {
  /** Bytes of a base written before they are made durable while more is on its way … */
  baseSyncBytes: number;
  /** … and while nothing is: no more than an agent's window has room for, or both would wait for each other. */
  baseSyncBytesIdle: number;
  /** Bytes of frames that wait for the disk; a peer that sends more than its window is refused. */
  appendBytesMax: number;
  /** HashRequests under way at once. */
  hashRequestsMax: number;
  /** Bytes of one HashRequest. */
  hashBytesMax: number;
  /** Smallest block that is compared: a reply has 32 bytes for each. */
  hashBlockBytesMin: number;
  /** Bytes of one SyncData, expanded. */
  pieceBytesMax: number;
  /** Pieces of a base on their way to its file. */
  piecesMax: number;
  /** Checkpoints that wait for their LSN. */
  checkpointsMax: number;
}

const MIB = 1024 * 1024;

export const SESSION_LIMITS: SessionLimits = {
  baseSyncBytes: 16 * MIB,
  baseSyncBytesIdle: 4 * MIB,
  appendBytesMax: 64 * MIB,
  hashRequestsMax: 16,
  hashBytesMax: 4 * MIB,
  hashBlockBytesMin: 4096,
  pieceBytesMax: MIB,
  piecesMax: 64,
  checkpointsMax: 64,
};

export const VOLUMES_MAX = 64;
/** The largest LSN, time or other number that is taken from a peer: the catalog's integers are signed. */
export const NUMBER_MAX = 2n ** 63n - 1n;

/** Groups that a host may begin by itself: as many as an agent can have. */
export const GROUPS_FOUNDED_MAX = 64;
/** Members of one group that one host may have had: each is a journal. Another one comes of a state directory that was lost. */
export const MEMBERS_OF_HOST_MAX = 16;
