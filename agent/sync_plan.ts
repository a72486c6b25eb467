/**
 * The syncs of a member's volumes, one after the other: initial sync into an empty base, resync through the journal.
 * Pure, as the session that owns it. It does not decide whether a volume needs a sync: the receiver's VolumeState does.
 *
 * Why a sync that goes on after a reconnect may skip what is below its offset: within one generation every change of
 * the backing is in the stream, so what was read before only has to be in the base, or in the ring, at all.
 */
import { HASH_BYTES } from '../proto/replication.js';
import type {
  AgentBody,
  HashReply,
  SyncAck,
  SyncComplete,
  VolumeInfo,
  VolumeState,
} from '../proto/replication.js';
import type { AgentAction } from './session_events.js';
import type { SessionLimits } from './session_limits.js';

/** What the plan needs of its session. */
export interface SyncPort {
  emit(action: AgentAction): void;
  send(body: AgentBody): void;
  /** The number of the message that the daemon is about to build from a piece. */
  sendPiece(volume: number, offset: bigint, wireBytes: number): void;
  /** Whether the transport can take a piece. */
  hasRoom(): boolean;
  /** The receiver said what it must not say now. */
  refuse(message: string): void;
}

type SyncKind = 'initial' | 'resync';

interface ActiveSync {
  volume: number;
  kind: SyncKind;
  size: bigint;
  /** Initial: the next read. Resync: the next compare. */
  offset: bigint;
  /** Read, compare or fence under way. */
  busy: 'read' | 'compare' | 'fence' | null;
  /** SyncDone was sent. */
  done: boolean;
  /** The last step failed or the stream was closed: `tick` tries again. */
  paused: boolean;
  failures: number;
  /** Initial: pieces sent and not durable, ascending; bytes before compression, so that their number is bounded too. */
  unacked: { end: bigint; bytes: number }[];
  unackedBytes: number;
  /** Initial: the base is durable below. */
  ackedOffset: bigint;
  /** Resync: the next HashRequest, the requests under way, and answers not yet compared. */
  requestOffset: bigint;
  requested: { id: number; offset: bigint; length: number }[];
  answered: { offset: bigint; length: number; hashes: Buffer }[];
}

export class SyncPlan {
  /** Of the step under way. Results of another turn are stale. */
  #turn = 0;
  #requestId = 0;
  #active: ActiveSync | null = null;
  #queue: VolumeState[] = [];
  /** Volumes without an ordered point in the generation, whether a sync of theirs runs or not. */
  readonly #unsynced = new Map<number, SyncKind>();
  #isClosed = false;
  #volumes: VolumeInfo[] = [];
  #hashKey: Buffer = Buffer.alloc(0);
  #generation = 0n;
  /** How far the resyncs of this generation have come, by volume. */
  readonly #progress = new Map<number, bigint>();

  constructor(
    private readonly limits: SessionLimits,
    private readonly port: SyncPort,
  ) {}

  /** The stream of `generation` flows: sync what the receiver says is not. */
  start(generation: bigint, volumes: VolumeInfo[], states: VolumeState[], hashKey: Buffer): void {
    this.stop();
    if (generation !== this.#generation) this.#progress.clear();
    this.#generation = generation;
    this.#volumes = volumes;
    this.#hashKey = hashKey;
    this.#queue = states.filter((state) => !state.synced).sort((a, b) => a.number - b.number);
    this.#unsynced.clear();
    for (const state of this.#queue) this.#unsynced.set(state.number, kindOf(state));
    this.advance();
  }

  /** Connection or generation ended. */
  stop(): void {
    this.#turn += 1;
    this.#active = null;
    this.#queue = [];
  }

  /** Production has ended, and what is not synced by now stays so: no step is taken any more. */
  close(): void {
    this.#isClosed = true;
    this.stop();
  }
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** What the member is busy with; null: with nothing, which does not mean that nothing is left to do. */
  get active(): { volume: number; kind: SyncKind; offset: bigint; size: bigint } | null {
    return this.#active;
  }
  /** What stands between the member and an ordered point: the sync under way, or the next; null: nothing. */
  get pending(): SyncKind | null {
    const [next] = this.#unsynced.values();
    return this.#active?.kind ?? next ?? null;
  }
  /** Volumes that wait for their turn. */
  get waiting(): number {
    return this.#queue.length;
  }

  pieceRead(turn: number, wireBytes: number, rawBytes: number): void {
    const sync = this.#step(turn, 'read');
    if (sync === null) {
      this.port.emit({ type: 'dropPiece' });
      return;
    }
    const offset = sync.offset;
    sync.offset += BigInt(rawBytes);
    if (wireBytes > 0) {
      sync.unacked.push({ end: sync.offset, bytes: rawBytes });
      sync.unackedBytes += rawBytes;
      this.port.sendPiece(sync.volume, offset, wireBytes);
    } else {
      this.port.emit({ type: 'dropPiece' });
    }
    this.advance();
  }

  compared(turn: number, streamClosed: boolean): void {
    const sync = this.#step(turn, 'compare');
    if (sync === null) return;
    if (streamClosed) {
      sync.paused = true; // the end of the generation is on its way, and with it the end of this sync
      return;
    }
    const piece = sync.answered.shift();
    if (piece !== undefined) sync.offset = piece.offset + BigInt(piece.length);
    this.#progress.set(sync.volume, sync.offset);
    this.advance();
  }

  fenced(turn: number, lsn: bigint | null): void {
    const sync = this.#step(turn, 'fence');
    if (sync === null) return;
    if (lsn === null) {
      sync.paused = true; // the stream was closed: what was read last may be newer than its end
      return;
    }
    sync.done = true;
    this.port.send({ syncDone: { volume: sync.volume, lsn } });
  }

  failed(turn: number, code: string, message: string): void {
    const sync = this.#active;
    if (sync === null || turn !== this.#turn) return;
    sync.busy = null;
    sync.paused = true;
    sync.failures += 1;
    if (sync.failures === 1) this.port.emit({ type: 'fail', code, message, final: false });
  }

  tick(): void {
    if (this.#active?.paused === true) this.#active.paused = false;
    this.advance();
  }

  syncAck(ack: SyncAck): void {
    const sync = this.#active;
    if (sync?.kind !== 'initial' || sync.volume !== ack.volume) {
      this.port.refuse(`SyncAck for volume ${ack.volume}, which has no initial sync`);
    } else if (ack.offset < sync.ackedOffset || ack.offset > sync.offset) {
      this.port.refuse(`SyncAck up to ${ack.offset} of the ${sync.offset} bytes read`);
    } else {
      sync.ackedOffset = ack.offset;
      while (sync.unacked[0] !== undefined && sync.unacked[0].end <= ack.offset) {
        sync.unackedBytes -= sync.unacked[0].bytes;
        sync.unacked.shift();
      }
      this.advance();
    }
  }

  hashReply(reply: HashReply): void {
    const sync = this.#active;
    const request = sync?.requested[0];
    if (sync?.kind !== 'resync' || request?.id !== reply.id) {
      this.port.refuse(`HashReply ${reply.id} was not asked for`);
    } else if (reply.hashes.length !== Math.ceil(request.length / this.limits.blockBytes) * HASH_BYTES) {
      this.port.refuse(`HashReply ${reply.id} has ${reply.hashes.length} bytes`);
    } else {
      sync.requested.shift();
      sync.answered.push({ offset: request.offset, length: request.length, hashes: reply.hashes });
      this.advance();
    }
  }

  syncComplete(complete: SyncComplete): void {
    if (this.#active?.volume !== complete.volume || !this.#active.done) {
      this.port.refuse(`SyncComplete for volume ${complete.volume}, which is not done`);
    } else {
      this.#progress.delete(complete.volume);
      this.#unsynced.delete(complete.volume);
      this.#active = null;
      this.advance();
    }
  }

  /** Takes every step that is possible now. */
  advance(): void {
    if (this.#isClosed) return;
    this.#active ??= this.#next();
    const sync = this.#active;
    if (sync === null || sync.paused || sync.done) return;
    if (sync.kind === 'resync') this.#requestHashes(sync);
    if (sync.busy !== null) return;
    if (sync.offset === sync.size) {
      this.port.emit({ type: 'fence', turn: this.#begin(sync, 'fence'), volume: sync.volume });
    } else if (sync.kind === 'initial') {
      this.#read(sync);
    } else {
      this.#compare(sync);
    }
  }

  #next(): ActiveSync | null {
    const state = this.#queue.shift();
    const info = this.#volumes.find((volume) => volume.number === state?.number);
    if (state === undefined || info === undefined) return null;
    const kind = kindOf(state);
    const offset =
      kind === 'resync'
        ? (this.#progress.get(state.number) ?? 0n)
        : state.base === 'BASE_SYNCING'
          ? state.syncOffset
          : 0n;
    this.port.send({
      syncBegin: { volume: state.number, kind: kind === 'resync' ? 'SYNC_RESYNC' : 'SYNC_INITIAL', offset },
    });
    return {
      volume: state.number,
      kind,
      size: info.size,
      offset,
      busy: null,
      done: false,
      paused: false,
      failures: 0,
      unacked: [],
      unackedBytes: 0,
      ackedOffset: offset,
      requestOffset: offset,
      requested: [],
      answered: [],
    };
  }

  #read(sync: ActiveSync): void {
    const length = this.#pieceLength(sync, sync.offset);
    if (sync.unackedBytes + length > this.limits.syncWindowBytes || !this.port.hasRoom()) return;
    const turn = this.#begin(sync, 'read');
    this.port.emit({ type: 'readPiece', turn, volume: sync.volume, offset: sync.offset, length });
  }

  #requestHashes(sync: ActiveSync): void {
    while (
      sync.requestOffset < sync.size &&
      sync.requested.length + sync.answered.length < this.limits.hashRequestsMax
    ) {
      const offset = sync.requestOffset;
      const length = this.#pieceLength(sync, offset);
      const id = (this.#requestId = (this.#requestId + 1) >>> 0);
      sync.requested.push({ id, offset, length });
      sync.requestOffset += BigInt(length);
      this.port.send({
        hashRequest: { id, volume: sync.volume, offset, length, blockBytes: this.limits.blockBytes },
      });
    }
  }

  #compare(sync: ActiveSync): void {
    const piece = sync.answered[0];
    if (piece === undefined) return;
    this.port.emit({
      type: 'compare',
      turn: this.#begin(sync, 'compare'),
      volume: sync.volume,
      offset: piece.offset,
      length: piece.length,
      blockBytes: this.limits.blockBytes,
      hashes: piece.hashes,
      hashKey: this.#hashKey,
    });
  }

  #pieceLength(sync: ActiveSync, offset: bigint): number {
    const left = sync.size - offset;
    return left < BigInt(this.limits.pieceBytes) ? Number(left) : this.limits.pieceBytes;
  }

  #begin(sync: ActiveSync, step: 'read' | 'compare' | 'fence'): number {
    sync.busy = step;
    this.#turn += 1;
    return this.#turn;
  }

  /** The sync whose step this result ends, or null when the result is stale. */
  #step(turn: number, step: 'read' | 'compare' | 'fence'): ActiveSync | null {
    const sync = this.#active;
    if (sync === null || turn !== this.#turn || sync.busy !== step) return null;
    sync.busy = null;
    sync.failures = 0;
    return sync;
  }
}

function kindOf({ base }: VolumeState): SyncKind {
  return base === 'BASE_COMPLETE' ? 'resync' : 'initial';
}
