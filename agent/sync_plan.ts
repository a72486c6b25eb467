/**
 * The syncs of a member's volumes, one after the other: initial sync into an empty base, resync through the journal.
 * Pure, as the session that owns it. It does not decide whether a volume needs a sync: the receiver's VolumeState does,
 * and also whether a resync may be partial. A partial one compares the extents that the dirty log marks, after it has
 * looked at a few places that it does not mark: where one of those differs, somebody wrote behind the agent, or the
 * backing is not what it was, and the whole volume is compared. What differs is compared again in smaller blocks, so that
 * little is sent beside it.
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
import { ExtentSet } from './extent_set.js';
import type { AgentAction, ComparePurpose, Range } from './session_events.js';
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
type Step = 'read' | 'extents' | 'compare' | 'fence';

/** Places that a partial resync looks at although nothing marks them, spread evenly, and the last block. */
const PROBES = 16n;

/** A HashRequest. */
interface Request {
  id: number;
  offset: bigint;
  length: number;
  blockBytes: number;
  purpose: ComparePurpose;
  /** What it was for is compared anew: its answer is dropped. */
  isStale: boolean;
}

/** How far the resync of a volume has come: it goes on there after a reconnect. */
interface Progress {
  extents: ExtentSet;
  isProbed: boolean;
  offset: bigint;
  comparedBytes: bigint;
  differingBytes: bigint;
}

/** What a resync has done. Bytes. */
export interface ResyncReport {
  comparedBytes: bigint;
  differingBytes: bigint;
}

interface ActiveSync {
  volume: number;
  kind: SyncKind;
  size: bigint;
  /** Below, all was read and sent, or compared. */
  offset: bigint;
  /** Initial: the next read. */
  readOffset: bigint;
  /** Steps under way, in the order in which they began, and in which their results come. */
  steps: { turn: number; step: Step }[];
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
  requested: Request[];
  answered: { request: Request; hashes: Buffer }[];
  /** Resync: of these, the first so many are being compared. */
  comparing: number;
  /** Resync: what is compared; null: not known yet. */
  extents: ExtentSet | null;
  /** Resync: places still to be looked at. */
  probes: bigint[];
  /** Resync: what differs, to be compared again and sent; ascending. */
  found: Range[];
  comparedBytes: bigint;
  differingBytes: bigint;
}

export class SyncPlan {
  /** Of the step that began last. Results of turns that are not under way are stale. */
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
  /** Of the resyncs of this generation, by volume. */
  readonly #progress = new Map<number, Progress>();
  readonly #reports = new Map<number, ResyncReport>();

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
    for (const { number, synced } of states) if (synced) this.#synced(number);
    this.advance();
  }

  /** Connection or generation ended. */
  stop(): void {
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
  get active(): { volume: number; kind: SyncKind; doneBytes: bigint; totalBytes: bigint } | null {
    if (this.#active === null) return null;
    const { volume, kind, offset, size, extents, comparedBytes } = this.#active;
    return kind === 'initial'
      ? { volume, kind, doneBytes: offset, totalBytes: size }
      : {
          volume,
          kind,
          doneBytes: lesser(comparedBytes, extents?.bytes ?? size),
          totalBytes: extents?.bytes ?? size,
        };
  }
  /** What the last resync of a volume, in this process, has come to; null: there was none. */
  report(volume: number): ResyncReport | null {
    return this.#reports.get(volume) ?? null;
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

  extentsRead(turn: number, extents: ExtentSet): void {
    const sync = this.#step(turn, 'extents');
    if (sync === null) return;
    sync.extents = extents;
    sync.probes = this.#probes(sync.size, extents);
    this.advance();
  }

  compared(turn: number, streamClosed: boolean, differing: readonly Range[]): void {
    const sync = this.#step(turn, 'compare');
    if (sync === null) return;
    if (streamClosed) {
      // The end of the generation is on its way, and with it the end of this sync.
      this.#pause(sync);
      return;
    }
    const request = sync.answered.shift()?.request;
    sync.comparing -= 1;
    if (request?.purpose === 'probe') {
      if (differing.length > 0) this.#doubt(sync);
    } else if (request?.purpose === 'find') {
      sync.offset = request.offset + BigInt(request.length);
      sync.comparedBytes += BigInt(request.length);
      sync.found.push(...differing);
    } else {
      for (const { length } of differing) sync.differingBytes += BigInt(length);
    }
    this.#note(sync);
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
    if (sync?.steps[0]?.turn !== turn) return;
    this.#pause(sync);
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
    } else if (reply.hashes.length !== Math.ceil(request.length / request.blockBytes) * HASH_BYTES) {
      this.port.refuse(`HashReply ${reply.id} has ${reply.hashes.length} bytes`);
    } else {
      sync.requested.shift();
      if (!request.isStale) sync.answered.push({ request, hashes: reply.hashes });
      this.advance();
    }
  }

  syncComplete(complete: SyncComplete): void {
    if (this.#active?.volume !== complete.volume || !this.#active.done) {
      this.port.refuse(`SyncComplete for volume ${complete.volume}, which is not done`);
    } else {
      this.#progress.delete(complete.volume);
      this.#unsynced.delete(complete.volume);
      this.#synced(complete.volume);
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
    if (sync.kind === 'resync' && sync.extents === null) {
      if (sync.steps.length > 0) return;
      this.port.emit({ type: 'readExtents', turn: this.#begin(sync, 'extents'), volume: sync.volume });
    } else if (this.#isRead(sync)) {
      if (sync.steps.length > 0) return;
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
    const progress = kind === 'resync' ? this.#progressOf(state, info.size) : null;
    const offset = progress?.offset ?? (state.base === 'BASE_SYNCING' ? state.syncOffset : 0n);
    const partial = kind === 'resync' && progress?.extents.isWhole !== true;
    const syncKind = kind === 'resync' ? 'SYNC_RESYNC' : 'SYNC_INITIAL';
    this.port.send({ syncBegin: { volume: state.number, kind: syncKind, offset, partial } });
    return {
      volume: state.number,
      kind,
      size: info.size,
      offset,
      readOffset: offset,
      steps: [],
      done: false,
      paused: false,
      failures: 0,
      unacked: [],
      unackedBytes: 0,
      ackedOffset: offset,
      requestOffset: offset,
      requested: [],
      answered: [],
      comparing: 0,
      extents: progress?.extents ?? null,
      found: [],
      probes: progress === null || progress.isProbed ? [] : this.#probes(info.size, progress.extents),
      comparedBytes: progress?.comparedBytes ?? 0n,
      differingBytes: progress?.differingBytes ?? 0n,
    };
  }

  /** Null: it begins, with what the dirty log marks. */
  #progressOf({ number, whole }: VolumeState, size: bigint): Progress | null {
    const progress = this.#progress.get(number);
    if (progress !== undefined && (progress.extents.isWhole || !whole)) return progress;
    return whole ? progressOfWhole(size) : null;
  }

  /** Everything read so far says that what is marked is not all. */
  #doubt(sync: ActiveSync): void {
    Object.assign(sync, progressOfWhole(sync.size), {
      requestOffset: 0n,
      probes: [],
      found: [],
      answered: [],
      comparing: 0,
      steps: [],
    });
    for (const request of sync.requested) request.isStale = true;
    this.port.send({ volumeDoubt: { volume: sync.volume } });
  }

  #note(sync: ActiveSync): void {
    const { volume, extents, comparedBytes, differingBytes, probes, found, requested, answered } = sync;
    if (extents === null) return;
    const open = [...answered.map(({ request }) => request), ...requested].filter(({ isStale }) => !isStale);
    const isProbed = probes.length === 0 && !open.some(({ purpose }) => purpose === 'probe');
    const unsent = [...open.filter(({ purpose }) => purpose === 'send'), ...found];
    const offset = unsent.reduce(
      (least, range) => (range.offset < least ? range.offset : least),
      sync.offset,
    );
    this.#progress.set(volume, { extents, isProbed, offset, comparedBytes, differingBytes });
    this.#reports.set(volume, { comparedBytes, differingBytes });
  }

  #synced(volume: number): void {
    this.port.emit({ type: 'volumeSynced', volume, generation: this.#generation });
  }

  #isRead(sync: ActiveSync): boolean {
    if (sync.kind === 'initial') return sync.offset === sync.size;
    const { extents, probes, found, requested, answered, requestOffset } = sync;
    const isAsked = probes.length + found.length === 0 && extents?.next(requestOffset) === null;
    return isAsked && requested.length === 0 && answered.length === 0;
  }

  /** Places outside of `extents`, ascending. */
  #probes(size: bigint, extents: ExtentSet): bigint[] {
    const blockBytes = BigInt(this.limits.blockBytes);
    const floor = (offset: bigint): bigint => offset - (offset % blockBytes);
    const places = Array.from({ length: Number(PROBES) }, (_, index) =>
      floor((BigInt(index) * size) / PROBES),
    );
    return [...new Set([...places, floor(size - 1n)])].filter((offset) => !extents.has(offset));
  }

  #read(sync: ActiveSync): void {
    while (sync.readOffset < sync.size && sync.steps.length < this.limits.syncStepsMax) {
      const offset = sync.readOffset;
      const length = least(this.limits.pieceBytes, sync.size - offset);
      const readBytes = Number(offset - sync.offset) + length;
      if (sync.unackedBytes + readBytes > this.limits.syncWindowBytes || !this.port.hasRoom()) return;
      sync.readOffset += BigInt(length);
      const turn = this.#begin(sync, 'read');
      this.port.emit({ type: 'readPiece', turn, volume: sync.volume, offset, length });
    }
  }

  #requestHashes(sync: ActiveSync): void {
    while (sync.requested.length + sync.answered.length < this.limits.hashRequestsMax) {
      const next = this.#nextRange(sync);
      if (next === null) return;
      const { offset, length, blockBytes, purpose } = next;
      const id = (this.#requestId = (this.#requestId + 1) >>> 0);
      sync.requested.push({ id, offset, length, blockBytes, purpose, isStale: false });
      this.port.send({ hashRequest: { id, volume: sync.volume, offset, length, blockBytes } });
    }
  }

  /** What is to be asked for next: whether the log can be believed first, and then what was found before more is. */
  #nextRange(sync: ActiveSync): Pick<Request, 'offset' | 'length' | 'blockBytes' | 'purpose'> | null {
    const { blockBytes, fineBlockBytes } = this.limits;
    const probe = sync.probes.shift();
    if (probe !== undefined) {
      const length = least(blockBytes, sync.size - probe);
      return { offset: probe, length, blockBytes, purpose: 'probe' };
    }
    const found = sync.found.shift();
    if (found !== undefined) return { ...found, blockBytes: fineBlockBytes, purpose: 'send' };
    const stretch = sync.extents?.next(sync.requestOffset) ?? null;
    if (stretch === null) return null;
    const length = least(this.limits.hashBytes, stretch.end - stretch.begin);
    sync.requestOffset = stretch.begin + BigInt(length);
    return { offset: stretch.begin, length, blockBytes, purpose: 'find' };
  }

  #compare(sync: ActiveSync): void {
    for (const { request, hashes } of sync.answered.slice(sync.comparing)) {
      if (sync.steps.length >= this.limits.syncStepsMax) return;
      sync.comparing += 1;
      this.port.emit({
        type: 'compare',
        turn: this.#begin(sync, 'compare'),
        volume: sync.volume,
        offset: request.offset,
        length: request.length,
        blockBytes: request.blockBytes,
        hashes,
        hashKey: this.#hashKey,
        purpose: request.purpose,
      });
    }
  }

  #begin(sync: ActiveSync, step: Step): number {
    this.#turn += 1;
    sync.steps.push({ turn: this.#turn, step });
    return this.#turn;
  }

  /** What is under way is done again, at the next tick. */
  #pause(sync: ActiveSync): void {
    sync.paused = true;
    sync.steps = [];
    sync.readOffset = sync.offset;
    sync.comparing = 0;
  }

  /** The sync whose step this result ends, or null when the result is stale. */
  #step(turn: number, step: Step): ActiveSync | null {
    const sync = this.#active;
    if (sync?.steps[0]?.turn !== turn || sync.steps[0].step !== step) return null;
    sync.steps.shift();
    sync.failures = 0;
    return sync;
  }
}

function least(bytes: number, left: bigint): number {
  return left < BigInt(bytes) ? Number(left) : bytes;
}

function progressOfWhole(size: bigint): Progress {
  const extents = ExtentSet.whole(size);
  return { extents, isProbed: true, offset: 0n, comparedBytes: 0n, differingBytes: 0n };
}

/** After a reconnect some of it is compared again. */
function lesser(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function kindOf({ base }: VolumeState): SyncKind {
  return base === 'BASE_COMPLETE' ? 'resync' : 'initial';
}
