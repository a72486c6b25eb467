/**
 * What happens to a receiver's session and what it then wants done: the vocabulary of receiver/session.ts. One
 * session per gRPC stream. The story behind it: docs/PROTOCOL.md.
 *
 * Rules for the daemon that feeds the machine:
 * - `handle(event)` returns actions; carry them out in their order, and hand every result back as an event. After
 *   `close` nothing is wanted any more; late results may still be handed in.
 * - Bulk bytes stay with the daemon: `append` means the frame, `writeBase` the data of the very event that was being
 *   handled.
 * - `storeEpoch` finds out, from the dirty logs in Hello, which volumes are in doubt as a whole, and every heartbeat is
 *   taken into account for the next one (log_claims.ts).
 * - Results of one kind come in the order of their actions.
 * - Actions on the base of a volume are carried out one after the other; once one of them has failed, those behind it
 *   are not carried out: a `syncBase` would claim what a failed `writeBase` left out.
 * - `find` claims the member, in the same turn in which it is answered: `otherIsLive` is whether other sessions had
 *   claimed it before and have not ended, and `writer` the newest of theirs and the catalog's. A session has ended when
 *   it is closed and all it asked for was answered.
 */
import type { FrameHeader } from '../proto/frame_header.js';
import type {
  AgentMessage,
  BaseState,
  Checkpoint,
  DirtyLogPosition,
  GenerationBegin,
  Hello,
  ReceiverMessage,
  StreamEnd,
  VerifyDone,
  VerifyReply,
  VerifyRequest,
  VolumeInfo,
} from '../proto/replication.js';

/** The member's writer, as the catalog has it or will have it. */
export interface StoredWriter {
  epoch: bigint;
  /** 16 bytes: the process that had this epoch. */
  instance: Buffer;
}

export interface StoredVolume {
  info: VolumeInfo;
  base: BaseState;
  /** BASE_SYNCING: everything below is durable in the base. */
  syncOffset: bigint;
  /** From this LSN of the present generation on the volume is consistent; 0n: not yet. */
  syncedLsn: bigint;
  /** A partial resync would not make it consistent. */
  whole: boolean;
}

/** Where the member's journal stands, on stable storage. */
export interface StoredPosition {
  /** 0n: none was begun. */
  generation: bigint;
  /** Of the generation; 1n: none was begun. */
  firstLsn: bigint;
  /** The last durable LSN; firstLsn - 1n while the generation has no record. */
  durableLsn: bigint;
  /** Header CRC of the generation's last frame, 0: none. */
  link: number;
  /** Its StreamEnd is stored: no frame may follow. */
  ended: boolean;
  /** Of the session. */
  volumes: StoredVolume[];
  /**
   * Of volumes that the generation has and the session has not, since they have left the group meanwhile: from where on each is
   * consistent, 0n for one that is not.
   */
  leftSyncedLsns: bigint[];
}

export type ReceiverEvent =
  /** Anything but a frame. The machine does not look at a SyncData's `data`. */
  | { type: 'message'; message: Exclude<AgentMessage, { frame: unknown }> }
  | { type: 'frame'; header: FrameHeader }
  /** Answers `find`. `writer` is null for a member that never was here. */
  | { type: 'found'; writer: StoredWriter | null; otherIsLive: boolean }
  /** Answers `find`: the catalog knows the group or a volume as something else (GROUP_MISMATCH, VOLUME_MISMATCH). */
  | { type: 'foundMismatch'; code: string; message: string }
  /** Answers `closeOther`: they have ended, and so has everything they had asked for. */
  | { type: 'otherClosed' }
  /** Answers `storeEpoch`. `hashKey`: 32 random bytes. */
  | { type: 'epochStored'; position: StoredPosition; hashKey: Buffer }
  /** Answers `storeEpoch`: a newer writer came first. */
  | { type: 'epochOutdated' }
  /** Answers one or more `append`s. */
  | { type: 'appended'; durableLsn: bigint }
  | { type: 'appendFailed'; code: string; message: string }
  | { type: 'generationEnded' }
  /** Answers `beginGeneration`, with the volumes as they are from now on. */
  | { type: 'generationBegun'; volumes: StoredVolume[] }
  | { type: 'baseBegun'; volume: number }
  /** Answers a `writeBase`: handed to the file, not yet durable. */
  | { type: 'baseWritten'; volume: number }
  /** Answers `syncBase`. */
  | { type: 'baseSynced'; volume: number; offset: bigint }
  | { type: 'syncedMarked'; volume: number }
  | { type: 'hashed'; id: number; hashes: Buffer }
  /** Answers `verify` and `storeVerified`. */
  | { type: 'verified'; reply: VerifyReply }
  | { type: 'checkpointKept'; requestId: string }
  /** E.g. CHECKPOINT_EXISTS. */
  | { type: 'checkpointFailed'; requestId: string; code: string; message: string }
  /** An operator asked the receiver for a checkpoint of this member's group. */
  | { type: 'checkpointAsked'; requestId: string; name: string }
  /** Any other action failed. The session ends with this code; the agent comes back. */
  | { type: 'failed'; code: string; message: string }
  /** Another session takes over: FENCED to a writer that was replaced, null to a dead stream of the same process. */
  | { type: 'displaced'; code: 'FENCED' | null }
  /** The stream has ended, by the peer or the network. */
  | { type: 'closed' };

export type ReceiverAction =
  /** Look the member up. */
  | { type: 'find'; hello: Hello }
  /** Hand `displaced` with this code to all who claimed the member before, and wait until they and their work have ended. */
  | { type: 'closeOther'; code: 'FENCED' | null }
  /**
   * Record group, member and volumes, then the writer, on stable storage; resume the journal at its durable end. If the
   * stored epoch is higher by now, or the same of another instance, store nothing and answer `epochOutdated`.
   */
  | { type: 'storeEpoch'; hello: Hello }
  | { type: 'send'; message: ReceiverMessage }
  /** Append the frame of this event. */
  | { type: 'append' }
  /** Record the generation's end (`ended`), and a gap from `end.timeNs` on. All its frames are durable. */
  | { type: 'endGeneration'; end: StreamEnd }
  /**
   * In one transaction: end the generation before at its durable LSN if nobody did, record the new one, mark every
   * base that is not complete BASE_EMPTY with its oldest LSN raised to `begin.firstLsn`, and no volume synced. Then begin in
   * the journal. After a crash in between, do the latter at the next start. All earlier frames are durable.
   */
  | { type: 'beginGeneration'; epoch: bigint; begin: GenerationBegin }
  /** Empty the base file, make that durable, and only then mark it BASE_SYNCING at offset 0. */
  | { type: 'beginBase'; volume: number }
  /** Check, expand and write the SyncData of this event into the base. */
  | { type: 'writeBase'; volume: number; offset: bigint }
  /** Make the base durable (all writes answered so far), then record that it is complete below `offset`. */
  | { type: 'syncBase'; volume: number; offset: bigint }
  /**
   * In one transaction: the base is BASE_COMPLETE, the volume not in doubt as a whole any more (if `isWhole`), and the volume consistent from `lsn` on. The member's timeline is
   * `ordered` from the highest of these on, once all its volumes have one.
   */
  | { type: 'markSynced'; volume: number; lsn: bigint; isWhole: boolean }
  /** For the next Hello: where the agent's dirty logs stand at least. */
  | { type: 'noteLogs'; logs: DirtyLogPosition[] }
  /** The volume is in doubt as a whole until a sync of all of it is complete: on stable storage, at once. */
  | { type: 'storeDoubt'; volume: number }
  /** Hash the volume as the records before `beforeLsn` left it, block by block: HMAC-SHA-256 with the session's key. */
  | {
      type: 'hash';
      id: number;
      volume: number;
      offset: bigint;
      length: number;
      blockBytes: number;
      beforeLsn: bigint;
    }
  /** Hash the volume as the records up to the LSN left it, which are durable: HMAC-SHA-256 with the session's key. */
  | { type: 'verify'; request: VerifyRequest }
  /** Record what a comparison has come to: which instants are wrong, and from where on none is. */
  | { type: 'storeVerified'; done: VerifyDone }
  /** Keep it: its LSN is durable and `ordered`. */
  | { type: 'keepCheckpoint'; checkpoint: Checkpoint }
  /** The end of a `checkpointAsked`. `code` "": it was kept. */
  | { type: 'checkpointResult'; requestId: string; code: string; message: string }
  /**
   * For status: what the agent said of itself. The message is the event's. `isCapturing`: everything is captured for
   * the present generation, so that its time covers what it names.
   */
  | { type: 'noteHeartbeat'; isCapturing: boolean }
  /** End the stream, once what was sent is out. The session has ended when what it asked for has. */
  | { type: 'close'; code: string; message: string };
