/**
 * What happens to an agent's session and what it then wants done: the vocabulary of agent/session.ts. One session per
 * member, for the life of the process. The story behind it: docs/PROTOCOL.md.
 *
 * Rules for the daemon that feeds the machine:
 * - `handle(event)` returns actions; carry them out in their order, and hand every result back as an event, also when
 *   the result came from an earlier connection: the machine knows what is stale.
 * - Bulk bytes stay with the daemon. `sendFrame`, `dropFrame`, `sendPiece` and `dropPiece` mean the frame or piece of
 *   the very event that was being handled.
 * - A result must be fed in the turn of the event loop in which it arrived, before anything later.
 */
import type { AgentMessage, DirtyLogPosition, ReceiverMessage, VolumeInfo } from '../proto/replication.js';
import type { ExtentSet } from './extent_set.js';
import type { VerifyQuestion } from './verify_exchange.js';

/** What the agent keeps on stable storage for a member, replaced as a whole. */
export interface StoredState {
  /** Of the last start. */
  epoch: bigint;
  /** The highest generation ever asked for; 0n: none. */
  generation: bigint;
  /** The highest LSN known to be durable at the receiver. After a clean stop: the last LSN of all. */
  durableLsn: bigint;
  /** The newest generation that a receiver has accepted: one that knows only older ones was set back. */
  acceptedGeneration: bigint;
  /** No LSN above it was ever used. */
  lsnCeiling: bigint;
  /** Everything captured is durable at the receiver, and nothing has been written to the backings since. */
  clean: boolean;
  /** The volumes as they were: a clean stop counts only for the same ones. */
  volumes: VolumeInfo[];
  /** The time of the last record known, nanoseconds: times given later lie above it. */
  timeNs: bigint;
  /** The time era of that record. */
  era: number;
  /** The instances of the processes that had this state, the present one first. */
  processes: Buffer[];
  /**
   * Where dirty logs stood when they were found, by the first process that no receiver has welcomed with them since; also of volumes
   * that have left again meanwhile.
   */
  unwelcomedLogs: DirtyLogPosition[];
}

/** Who the member is; the constant part of Hello. */
export interface MemberIdentity {
  software: string;
  group: Buffer;
  groupName: string;
  member: Buffer;
  host: string;
  /** 16 random bytes, fresh in each process. */
  instance: Buffer;
  volumes: VolumeInfo[];
}

/** The stream of a predecessor's capture ring, which goes on in this process. */
export interface InheritedStream {
  generation: bigint;
  capturedLsn: bigint;
  /** Durable at the receiver, as far as the predecessor knew: the ring holds what follows. */
  releasedLsn: bigint;
  lsnCeiling: bigint;
  /** Its stream was closed: what the ring holds is sent, and another generation begins. */
  hasEnded: boolean;
}

/** What the capture ring says of itself (native CaptureStats, as far as a session cares). */
export interface RingView {
  capturedLsn: bigint;
  capturedTimeNs: bigint;
  /** Time of the oldest record that is not released, 0n: none. */
  oldestTimeNs: bigint;
  usedBytes: bigint;
  bytes: bigint;
  era: number;
  /** False once the stream was closed: what production writes now is not captured. */
  streaming: boolean;
  /** Why the last stream has ended; of no meaning while `streaming`. */
  endReason: string;
}

/** A sealed frame, without its bytes. */
export interface FrameSummary {
  generation: bigint;
  firstLsn: bigint;
  lastLsn: bigint;
  /** On the wire. */
  bytes: number;
}

/** Numbers of a native generation: GenerationStart of native/index.ts. */
export interface GenerationNumbers {
  epoch: bigint;
  generation: bigint;
  firstLsn: bigint;
  lsnCeiling: bigint;
}

/** A part of a volume, bytes. */
export interface Range {
  offset: bigint;
  /** 1…1 MiB. */
  length: number;
}

/** What a comparison is for: whether the dirty log can be believed; what differs at all; what is to be sent. */
export type ComparePurpose = 'probe' | 'find' | 'send';

export type AgentEvent =
  /**
   * Once, first. `stored` is what `persist` was last given, by an earlier process; null at the member's first start. `logs`:
   * where the dirty logs stand before this process lets production in. `inherited`: production is in already, since a
   * predecessor let it in, and what it writes is captured; null: it is not.
   */
  | {
      type: 'started';
      stored: StoredState | null;
      identity: MemberIdentity;
      logs: DirtyLogPosition[];
      inherited: InheritedStream | null;
    }
  /** The oldest unanswered `persist` is on stable storage. */
  | { type: 'persisted' }
  | { type: 'persistFailed'; code: string; message: string }
  /** Answers `open`: the capture group is there; production may not be yet. */
  | { type: 'opened' }
  /** Answers `open`: there is no capture group, and production is not let in. `stopped` follows. */
  | { type: 'openFailed' }
  /** The stream that `connect` asked for is open; nothing was sent on it. `logs`: where they stand now. */
  | { type: 'connected'; logs: DirtyLogPosition[] }
  /** The stream has ended, or could not be opened. Also answers `disconnect`. Once for every `connect`. */
  | { type: 'disconnected'; code: string; message: string }
  | { type: 'message'; message: ReceiverMessage }
  /** Answers `pull`. `logs`: where they stand now, with the marks of all records of the frame. */
  | { type: 'frameReady'; frame: FrameSummary; logs: DirtyLogPosition[] }
  /** Answers `pull`: the generation has ended and all of it was pulled. `timeNs`: of its last record. */
  /** Answers `pull`: what was captured next cannot be read any more. */
  | { type: 'streamLost'; code: string; message: string }
  | { type: 'streamEnded'; generation: bigint; lastLsn: bigint; reason: string; timeNs: bigint }
  /** The transport took over what `sendFrame` or `sendPiece` gave it (the callback of write()), on this connection. */
  | { type: 'sent'; bytes: number }
  /** Answers `readPiece`. `wireBytes`: of the piece as it will be sent; 0 when it is all zero and need not be sent. */
  | { type: 'pieceRead'; turn: number; wireBytes: number; rawBytes: number }
  /** Answers `readExtents`, with what was marked at some time after the generation had begun. */
  | { type: 'extentsRead'; turn: number; extents: ExtentSet }
  /**
   * Answers `compare`, with what differs, ascending, no range longer than a record. `streamClosed`: the ring took no more
   * of it. Of a probe nothing differs where its extent is marked by now: production may have written to it.
   */
  | { type: 'compared'; turn: number; streamClosed: boolean; differing: Range[] }
  /**
   * Answers `fence`. `lsn` is null when the capture group was not streaming any more *after* the fence was taken: then what
   * was read may be newer than any record.
   */
  | { type: 'fenced'; turn: number; lsn: bigint | null }
  /** Answers `readPiece`, `readExtents`, `compare` or `fence` when the backing could not be read. Tried again after a pause. */
  | { type: 'syncFailed'; turn: number; code: string; message: string }
  /** An operator asked this agent for a checkpoint. */
  | { type: 'checkpointRequested'; requestId: string; name: string }
  /** Answers `readPosition`. `lsn` is null when the capture group is not streaming: then there is nothing to mark. */
  | { type: 'positionRead'; requestId: string; name: string; lsn: bigint | null; timeNs: bigint }
  /**
   * Volumes have other sizes, or are others, and the capture group has closed its stream for that: in this very turn, if it was
   * open. `logs`: where the dirty logs stand, before production is let in to those that are new.
   */
  | { type: 'reshaped'; volumes: VolumeInfo[]; logs: DirtyLogPosition[] }
  /** A verification asks the receiver; answered by `verifyAnswered`. */
  | { type: 'verifyAsked'; question: VerifyQuestion }
  /** A clean stop is wanted. */
  | { type: 'stopRequested' }
  /** Answers `quiesce`. */
  | { type: 'quiesced'; ring: RingView }
  /** The time for a clean stop is over: stop as it is. */
  | { type: 'stopExpired' }
  /** Every second. `nowNs`: CLOCK_REALTIME. `logs`: where they stood before `ring` was looked at. */
  | { type: 'tick'; nowNs: bigint; ring: RingView; logs: DirtyLogPosition[] };

export type AgentAction =
  /** Put `state` on stable storage, answer `persisted`; one after the other, in order. */
  | { type: 'persist'; state: StoredState }
  /**
   * Create the capture group (times above `lastTimeNs`, in `era`); if `resume` is not null begin that generation; and
   * only then let production in. Not before: until now the state on disk might say `clean`. Answered by `opened`, as soon
   * as the group is there, or by `openFailed`. `goesOn`: the group is there with an inherited stream, which is the one to
   * resume.
   */
  | {
      type: 'open';
      lastTimeNs: bigint;
      era: number;
      resume: GenerationNumbers | null;
      goesOn: boolean;
    }
  /** Open a stream to the receiver; after a pause that grows with `attempt` (0: at once, else agent/backoff.ts). */
  | { type: 'connect'; attempt: number }
  /** End the stream; drop what was not sent. Answered by `disconnected`. */
  | { type: 'disconnect'; code: string; message: string }
  | { type: 'send'; message: AgentMessage }
  /**
   * Frame again from after `durableLsn`; no frame of an earlier start may be delivered after it. Also asked for when
   * the stream's end was pulled already, as long as `beginGeneration` was not: what is not released is still in the ring.
   */
  | { type: 'startShipping'; durableLsn: bigint; link: number }
  | { type: 'stopShipping' }
  /** Call next() of the capture group, once; answered by `frameReady` or `streamEnded`, however late. */
  | { type: 'pull' }
  /** Write the frame of this event to the stream, and release its buffer when it is sent (or the stream is gone). */
  | { type: 'sendFrame' }
  /** Give the frame of this event back unsent. */
  | { type: 'dropFrame' }
  /** The ring may forget everything up to `lsn`. */
  | { type: 'release'; lsn: bigint }
  | { type: 'raiseCeiling'; lsn: bigint }
  /** Begin in the capture group. All of the generation before was pulled to its end. */
  | { type: 'beginGeneration'; start: GenerationNumbers }
  /**
   * Close the stream, if it has not closed by itself, and forget what the ring holds of it: of all of it nothing but
   * `streamEnded` is left to be pulled.
   */
  | { type: 'abandonStream'; reason: string }
  /** Forget what the ring holds of a stream whose end was pulled. It is durable, or of no use to anybody. */
  | { type: 'forgetStream' }
  /** Initial sync: read `length` bytes of the volume's backing. At most one per volume set is outstanding. */
  | { type: 'readPiece'; turn: number; volume: number; offset: bigint; length: number }
  /** Send the piece of this event as SyncData with these numbers. */
  | { type: 'sendPiece'; sequence: number; volume: number; offset: bigint }
  | { type: 'dropPiece' }
  /** Partial resync: ask the volume's dirty log what is in doubt. */
  | { type: 'readExtents'; turn: number; volume: number }
  /** The receiver holds the volume in `generation`: from now on its dirty log may unmark. */
  | { type: 'volumeSynced'; volume: number; generation: bigint }
  /** Resync: compare the backing with `hashes` (32 bytes a block of `blockBytes`); to `send`, republish the blocks that differ. */
  | {
      type: 'compare';
      turn: number;
      volume: number;
      offset: bigint;
      length: number;
      blockBytes: number;
      hashes: Buffer;
      hashKey: Buffer;
      purpose: ComparePurpose;
    }
  /** Take an LSN not before any write that is in flight now. */
  | { type: 'fence'; turn: number; volume: number }
  | { type: 'readPosition'; requestId: string; name: string }
  /** The end of a `checkpointRequested`. `code` "": it was kept. */
  | { type: 'checkpointResult'; requestId: string; code: string; message: string }
  /** The end of a `verifyAsked`. `code` "": with what the receiver said, and the key of its hashes. */
  | { type: 'verifyAnswered'; id: number; code: string; message: string; hashes: Buffer; hashKey: Buffer }
  /**
   * Wait until production uses the volumes no more, which may take hours, and end its way in; only then end the sync
   * steps under way, and read the ring.
   */
  | { type: 'quiesce' }
  /** Something an operator should know. `final`: the session has given up, production goes on unprotected. */
  | { type: 'fail'; code: string; message: string; final: boolean }
  /**
   * Something an operator should know: the stream of `generation` has ended, and until a later one is synced the member is
   * not what it was. The code may be corrected when its end was pulled.
   */
  | { type: 'interrupted'; generation: bigint; code: string; message: string }
  /** The end; a `connect` that still waits is cancelled. `clean`: the next process may continue the generation. */
  | { type: 'stopped'; clean: boolean };
