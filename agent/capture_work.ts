/**
 * Carries out what the session wants done with the capture group: shipping its frames, and reading, comparing and
 * fencing its volumes, and asking their dirty logs. Every result goes back as an event.
 */
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import {
  HEADROOM_BYTES,
  type DirtyLogPosition,
  type OutgoingMessage,
  type PieceBytes,
} from '../proto/replication.js';
import { MessageMemory } from '../service/message_assembly.js';
import type * as native from '../native/index.js';
import type { Clock } from './clock.js';
import type { Deliveries } from './deliveries.js';
import { DIRTY_EXTENT_BYTES, positionOf } from './dirty_logs.js';
import { ExtentSet } from './extent_set.js';
import type { LagHistogram } from './lag.js';
import type { AgentAction, AgentEvent, Range, RingView } from './session_events.js';
import { Shipper, type FrameSource } from './shipper.js';
import { Sync } from './sync.js';

const CAPTURE_ACTIONS = [
  'startShipping',
  'stopShipping',
  'pull',
  'sendFrame',
  'dropFrame',
  'release',
  'raiseCeiling',
  'beginGeneration',
  'abandonStream',
  'forgetStream',
  'readPiece',
  'sendPiece',
  'dropPiece',
  'readExtents',
  'volumeSynced',
  'compare',
  'fence',
  'readPosition',
] as const;
export type CaptureAction = Extract<AgentAction, { type: (typeof CAPTURE_ACTIONS)[number] }>;

export function isCaptureAction(action: AgentAction): action is CaptureAction {
  return (CAPTURE_ACTIONS as readonly string[]).includes(action.type);
}

/** What came with an event and is too large to go through the machine: the frame or the piece of that very event. */
export type Bulk = { frame: native.CapturedFrame } | { piece: ReadPiece } | null;
/** A piece of an initial sync as it is sent: `buffer` is lent from the memory of pieces. */
type ReadPiece = Pick<PieceBytes, 'rawBytes' | 'compressed' | 'crc32c' | 'buffer' | 'headroom'>;
export type Feed = (event: AgentEvent, bulk: Bulk) => void;

export interface CapturedVolumes {
  group: native.CaptureGroup;
  /** Bytes per second that a sync may read; null: no bound. */
  syncRateMax: bigint | null;
  /** Of the group; they outlive this session. */
  deliveries: Deliveries;
  /** By number. */
  volumes: ReadonlyMap<number, WorkVolume>;
}
export interface WorkVolume {
  device: native.CapturedVolume;
  log: native.DirtyLog;
  title: string;
}

export class CaptureWork {
  readonly shipper: Shipper;
  private readonly sync: Sync;
  private readonly stoppingSync = new AbortController();
  /** Sync steps under way. */
  private readonly steps = new Set<Promise<void>>();
  /** By volume, the step that began last: results come in the order in which their steps began. */
  private readonly lastSteps = new Map<number, Promise<void>>();
  private readonly memory = new MessageMemory();
  /** Of the generation that was begun last. */
  private firstLsn = 0n;

  constructor(
    private readonly captured: CapturedVolumes,
    private readonly send: (message: OutgoingMessage) => Promise<void>,
    private readonly feed: Feed,
    lag: LagHistogram,
    clock: Clock,
    private readonly failed: (error: unknown) => void,
  ) {
    const { group, deliveries, syncRateMax } = captured;
    const source: FrameSource = {
      next: () => deliveries.next(),
      startShipping: (durableLsn, link) => group.startShipping(durableLsn, link),
      stopShipping: () => group.stopShipping(),
      abandonStream: () => group.abandonStream(),
      release: (lsn) => group.release(lsn),
      stats: () => group.stats(),
    };
    this.shipper = new Shipper(source, send, clock, lag, {
      pulled: (delivery) => this.pulled(delivery),
      sent: (bytes) => feed({ type: 'sent', bytes }, null),
      failed,
    });
    const isRingBusy = (): boolean => {
      const { ringUsedBytes, ringBytes, spoolUsedBytes } = group.stats();
      return spoolUsedBytes > 0n || ringUsedBytes * 2n > ringBytes;
    };
    this.sync = new Sync(isRingBusy, syncRateMax, clock, this.stoppingSync.signal);
  }

  get stats(): native.CaptureStats {
    return this.captured.group.stats();
  }

  ring(): RingView {
    const { streaming, endReason, capturedLsn, capturedTimeNs, oldestTimeNs, ringUsedBytes, ringBytes, era } =
      this.stats;
    const ring = { streaming, endReason, capturedLsn, capturedTimeNs, oldestTimeNs, era };
    return { ...ring, usedBytes: ringUsedBytes, bytes: ringBytes };
  }

  /** Where the dirty logs stand, on stable storage. */
  logs(): DirtyLogPosition[] {
    return Array.from(this.captured.volumes, ([volume, { log }]) => positionOf(volume, log));
  }

  /** `bulk` is that of the event being handled. */
  carryOut(action: CaptureAction, bulk: Bulk): void {
    const { group } = this.captured;
    switch (action.type) {
      case 'startShipping':
        return this.shipper.startShipping(action.durableLsn, action.link);
      case 'stopShipping':
        return this.shipper.stopShipping();
      case 'pull':
        return this.shipper.pull();
      case 'sendFrame':
        return this.shipper.ship(frameOf(bulk));
      case 'dropFrame':
        return frameOf(bulk).release();
      case 'release':
        return this.shipper.release(action.lsn);
      case 'raiseCeiling':
        return group.raiseCeiling(action.lsn);
      case 'beginGeneration':
        this.firstLsn = action.start.firstLsn;
        return group.beginGeneration(action.start);
      case 'abandonStream':
        return this.shipper.abandon(action.reason);
      case 'forgetStream':
        return this.shipper.forget();
      case 'readPiece':
        return this.readPiece(action);
      case 'sendPiece':
        return this.sendPiece(action, pieceOf(bulk));
      case 'dropPiece':
        return this.memory.giveBack(pieceOf(bulk).buffer);
      case 'readExtents':
        return this.readExtents(action);
      case 'volumeSynced':
        this.memory.forget();
        return this.volume(action.volume).log.setSynced(action.generation);
      case 'compare':
        return this.compare(action);
      case 'fence':
        return this.fence(action);
      case 'readPosition':
        return this.readPosition(action);
    }
  }

  /** Ends the sync steps under way and waits for them: none publishes a record any more, and none begins. */
  async quiesce(): Promise<void> {
    this.stoppingSync.abort();
    await Promise.all(this.steps);
  }

  /** For a verification; as CapturedVolume.readSettled. Errors: IO_ERROR, INTERRUPTED. */
  readSettled(volume: number, offset: bigint, into: Buffer): Promise<bigint> {
    return this.beside(() => this.volume(volume).device.readSettled(offset, into));
  }
  /** For a verification: as Sync.republish. */
  repair(volume: number, { offset, length }: Range): Promise<bigint> {
    return this.beside(() => this.sync.republish(this.volume(volume).device, offset, length));
  }

  /** Its session is over and the group goes on: nothing is shipped, synced or awaited for it any more. */
  forsake(): void {
    this.stoppingSync.abort();
    this.captured.deliveries.forsake();
    this.shipper.stopShipping();
  }

  private readPosition({ requestId, name }: Extract<AgentAction, { type: 'readPosition' }>): void {
    const tell = (): void => {
      const { lsn, timeNs } = this.captured.group.position();
      const marked = this.stats.streaming && lsn >= this.firstLsn ? lsn : null;
      this.feed({ type: 'positionRead', requestId, name, lsn: marked, timeNs }, null);
    };
    const [volume] = this.captured.volumes.values();
    if (volume === undefined || this.captured.group.position().lsn >= this.firstLsn) return tell();
    // Nothing was written in this generation yet, so that no record of it names the present: a flush is one.
    this.own(volume.device.flush().then(tell, tell));
  }

  private pulled(delivery: native.CapturedDelivery): void {
    if (delivery.kind === 'loss') {
      const { code, message } = delivery;
      return this.feed({ type: 'streamLost', code, message }, null);
    }
    if (delivery.kind === 'end') {
      const { generation, lastLsn, reason } = delivery;
      const timeNs = this.stats.capturedTimeNs;
      this.feed({ type: 'streamEnded', generation, lastLsn, reason, timeNs }, null);
      return;
    }
    const { generation, firstLsn, lastLsn, buffer, headroom } = delivery;
    const frame = { generation, firstLsn, lastLsn, bytes: buffer.length - headroom };
    this.feed({ type: 'frameReady', frame, logs: this.logs() }, { frame: delivery });
  }

  private readPiece(action: Extract<AgentAction, { type: 'readPiece' }>): void {
    const { turn, volume, offset, length: rawBytes } = action;
    this.step(action, `at ${offset}`, async () => {
      const headroom = HEADROOM_BYTES;
      const memory = this.memory.take(headroom + rawBytes);
      try {
        const { device } = this.volume(volume);
        const { bytes, ...how } = await this.sync.readPiece(device, offset, memory.subarray(headroom));
        const piece = { rawBytes, ...how, buffer: memory.subarray(0, headroom + bytes), headroom };
        return () => this.feed({ type: 'pieceRead', turn, wireBytes: bytes, rawBytes }, { piece });
      } catch (thrown) {
        this.memory.giveBack(memory);
        throw thrown;
      }
    });
  }

  private sendPiece(action: Extract<AgentAction, { type: 'sendPiece' }>, piece: ReadPiece): void {
    const { sequence, volume, offset } = action;
    const giveBack = (): void => this.memory.giveBack(piece.buffer);
    this.send({ sequence, piece: { volume, offset, ...piece } }).then(
      () => {
        giveBack();
        this.feed({ type: 'sent', bytes: piece.buffer.length - piece.headroom }, null);
      },
      giveBack, // the link reports the loss
    );
  }

  private readExtents(action: Extract<AgentAction, { type: 'readExtents' }>): void {
    const { turn, volume } = action;
    this.step(action, 'in its dirty log', async () => {
      const { log, device } = this.volume(volume);
      const extents = ExtentSet.of(device.size, DIRTY_EXTENT_BYTES, await log.extents());
      return () => this.feed({ type: 'extentsRead', turn, extents }, null);
    });
  }

  private compare(action: Extract<AgentAction, { type: 'compare' }>): void {
    const { turn, volume, offset, length, purpose } = action;
    this.step(action, `at ${offset}`, async () => {
      const { device, log } = this.volume(volume);
      const range = { offset, length };
      if (purpose === 'send') {
        const { isOpen, differing } = await this.sync.compare(device, range, action);
        return () => this.feed({ type: 'compared', turn, streamClosed: !isOpen, differing }, null);
      }
      const found = await this.sync.differing(device, range, action);
      // Asked after it was read: production marks before it writes.
      const differing = purpose === 'probe' && log.isMarked(offset) ? [] : found;
      return () => this.feed({ type: 'compared', turn, streamClosed: false, differing }, null);
    });
  }

  private fence(action: Extract<AgentAction, { type: 'fence' }>): void {
    const { turn, volume } = action;
    this.step(action, 'waiting for its writes', async () => {
      const fenced = await this.volume(volume).device.fence();
      // Asked afterwards: what was read before a stream closed may be newer than any of its records.
      const lsn = this.stats.streaming ? fenced : null;
      return () => this.feed({ type: 'fenced', turn, lsn }, null);
    });
  }

  /** Owns a sync step until `work` has said how its result is told, and it was; its failure is an event too, which says what failed. */
  private step(
    { turn, volume }: { turn: number; volume: number },
    at: string,
    work: () => Promise<() => void>,
  ): void {
    // The session is about to hear that production has ended, and waits for no answer.
    if (this.stoppingSync.signal.aborted) return;
    const result = work().catch((thrown: unknown) => () => this.tellFailure(turn, volume, at, thrown));
    const before = this.lastSteps.get(volume);
    const step = Promise.all([result, before])
      .then(([tell]) => tell())
      .catch((error: unknown) => this.failed(error))
      .finally(() => {
        if (this.lastSteps.get(volume) === step) this.lastSteps.delete(volume);
      });
    this.lastSteps.set(volume, step);
    this.own(step);
  }

  private tellFailure(turn: number, volume: number, at: string, thrown: unknown): void {
    if (this.stoppingSync.signal.aborted) return;
    const { code, message } = toAfterimageError(thrown);
    const found = this.captured.volumes.get(volume);
    if (found === undefined) return; // it has left its group
    this.feed({ type: 'syncFailed', turn, code, message: `${found.title} ${at}: ${message}` }, null);
  }

  /** What is no step of a sync, and ends with them. Errors: INTERRUPTED. */
  private beside<T>(work: () => Promise<T>): Promise<T> {
    if (this.stoppingSync.signal.aborted) {
      return Promise.reject(new AfterimageError('INTERRUPTED', 'the agent stops'));
    }
    const done = work();
    const ignored = (): void => undefined;
    this.own(done.then(ignored, ignored));
    return done;
  }

  /** quiesce() waits for it. */
  private own(step: Promise<void>): void {
    this.steps.add(step);
    void step.finally(() => this.steps.delete(step));
  }

  private volume(number: number): WorkVolume {
    const volume = this.captured.volumes.get(number);
    if (volume === undefined) throw new Error(`no volume has number ${number}`);
    return volume;
  }
}

function frameOf(bulk: Bulk): native.CapturedFrame {
  if (bulk === null || !('frame' in bulk)) throw new Error('this event has no frame');
  return bulk.frame;
}

function pieceOf(bulk: Bulk): ReadPiece {
  if (bulk === null || !('piece' in bulk)) throw new Error('this event has no piece');
  return bulk.piece;
}
