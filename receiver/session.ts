/**
 * The receiver's side of the replication session, as a pure state machine: events in, actions out, no I/O, no clock, no
 * randomness. One per stream. Vocabulary: session_events.ts. Story: docs/PROTOCOL.md.
 *
 * Its promises:
 * - One writer a member: an older or a cloned one is fenced before it can write anything.
 * - An LSN is acknowledged only when its frame is on stable storage (R4), in order and without a gap (R5).
 * - Epoch and generation are stored before they are answered; a generation begins when all before it is durable.
 * - A base that an ordered point rests on is never written directly (R6).
 * - An agent that says what it must not is refused with a code, and loses the connection.
 */
import { ERRORS, isErrorCode } from '../proto/errors.js';
import type { FrameHeader } from '../proto/frame_header.js';
import { MessageNumbers } from '../proto/message_numbers.js';
import { commonProtocol } from '../proto/replication.js';
import type {
  GenerationBegin,
  Heartbeat,
  Hello,
  ReceiverBody,
  StreamEnd,
  SyncBegin,
  VerifyDone,
  VerifyRequest,
  VolumeDoubt,
} from '../proto/replication.js';
import { sameVolumes } from '../proto/replication.js';
import { assertWatermarks } from '../proto/watermarks.js';
import type { Watermarks } from '../proto/watermarks.js';
import { CheckpointWaits } from './checkpoint_waits.js';
import { fence, helloFault, REASON_CHARACTERS_MAX } from './hello.js';
import { Intake } from './intake.js';
import { MemberVolumes } from './member_volumes.js';
import type {
  ReceiverAction,
  ReceiverEvent,
  StoredPosition,
  StoredVolume,
  StoredWriter,
} from './session_events.js';
import { NUMBER_MAX, SESSION_LIMITS } from './session_limits.js';
import { STORE_VERSION } from './store_version.js';
import type { SessionLimits } from './session_limits.js';
import { Verification } from './verification.js';
import { VolumeSync } from './volume_sync.js';

type Phase =
  | 'new' // Hello is awaited
  | 'finding' // the member is looked up
  | 'displacing' // the member's other session is being ended
  | 'storing' // the epoch is being stored
  | 'ready' // Welcome was sent
  | 'closed';

/** How far the generation is. Frames and syncs are taken in `open` only. */
type Stage = 'none' | 'open' | 'ending' | 'ended' | 'beginning';

export class ReceiverSession {
  #out: ReceiverAction[] = [];
  #phase: Phase = 'new';
  #stage: Stage = 'none';
  #hello: Hello | null = null;
  #firstLsn = 0n;
  #intake: Intake;
  #volumes = new MemberVolumes([], []);
  #sync: VolumeSync | null = null;
  /** Received, and waiting for what came before to be durable. */
  #end: StreamEnd | null = null;
  #begin: GenerationBegin | null = null;
  #isWaiting = false;
  /** That were noted. */
  #heartbeats = 0;
  readonly #numbers = new MessageNumbers();
  readonly #checkpoints: CheckpointWaits;
  readonly #verification: Verification;

  /** `software`: this receiver's name and version. */
  constructor(
    private readonly software: string,
    private readonly limits: SessionLimits = SESSION_LIMITS,
  ) {
    this.#intake = new Intake(0n, 0n, 1n, 0n, 0, limits.appendBytesMax);
    const port = {
      emit: (action: ReceiverAction): void => void this.#out.push(action),
      send: (body: ReceiverBody): void => this.#send(body),
    };
    this.#checkpoints = new CheckpointWaits(limits.checkpointsMax, port);
    this.#verification = new Verification(limits, port);
  }

  get isReady(): boolean {
    return this.#phase === 'ready';
  }
  get isClosed(): boolean {
    return this.#phase === 'closed';
  }
  get marks(): Readonly<Watermarks> {
    return this.#intake.marks;
  }
  get generation(): bigint {
    return this.#intake.generation;
  }

  /** Takes one event; returns what is to be done about it, in order. Throws AssertionError on defects only. */
  handle(event: ReceiverEvent): ReceiverAction[] {
    this.#out = [];
    if (this.#phase !== 'closed') {
      this.#take(event);
      this.#advance();
      assertWatermarks(this.#intake.marks);
    }
    return this.#out;
  }

  #take(event: ReceiverEvent): void {
    switch (event.type) {
      case 'message':
        return this.#message(event.message);
      case 'frame':
        return this.#frame(event.header);
      case 'found':
        return this.#found(event.writer, event.otherIsLive);
      case 'foundMismatch':
      case 'appendFailed':
      case 'failed':
        return this.#refuse(event.code, event.message);
      case 'otherClosed':
        return this.#storeEpoch();
      case 'epochStored':
        return this.#welcome(event.position, event.hashKey);
      case 'epochOutdated':
        return this.#refuse('FENCED', 'a newer writer came first');
      case 'appended':
        return this.#appended(event.durableLsn);
      case 'generationEnded':
        this.#isWaiting = false;
        this.#end = null;
        this.#stage = 'ended';
        return;
      case 'generationBegun':
        return this.#generationBegun(event.volumes);
      case 'baseBegun':
        return this.#sync?.begun();
      case 'baseWritten':
        return this.#sync?.written();
      case 'baseSynced':
        return this.#baseSynced(event.volume, event.offset);
      case 'syncedMarked':
        return this.#syncedMarked();
      case 'hashed':
        this.#sync?.hashed();
        if (this.#stage === 'open') this.#send({ hashReply: { id: event.id, hashes: event.hashes } });
        return;
      case 'verified':
        return this.#verification.answered(event.reply, this.#stage === 'open');
      case 'checkpointKept':
        return this.#checkpoints.kept(event.requestId, '', '');
      case 'checkpointFailed':
        return this.#checkpoints.kept(event.requestId, event.code, event.message);
      case 'checkpointAsked':
        return this.#checkpoints.ask(
          { requestId: event.requestId, name: event.name },
          this.#stage === 'open',
        );
      case 'displaced':
        if (event.code !== null) return this.#refuse(event.code, 'another writer has taken over');
        return this.#close('SESSION_LOST', 'the agent has come back on another connection');
      case 'closed':
        this.#checkpoints.lost();
        this.#phase = 'closed';
        return;
    }
  }

  /** What follows from where things stand, whatever happened. */
  #advance(): void {
    if (this.#phase !== 'ready') return;
    const { marks, isSettled } = this.#intake;
    if (this.#stage === 'open') {
      this.#advanceSync();
      this.#verification.advance(marks.durable);
    }
    const { orderedFromLsn } = this.#volumes;
    this.#intake.offered(orderedFromLsn);
    this.#checkpoints.advance(marks.durable, orderedFromLsn, this.#orderedSoonFromLsn);
    if (this.#isWaiting || !isSettled) return;
    if (this.#end !== null) {
      this.#isWaiting = true;
      this.#out.push({ type: 'endGeneration', end: this.#end });
    } else if (this.#begin !== null && (this.#sync?.isIdle ?? true) && this.#verification.isIdle) {
      this.#isWaiting = true;
      this.#checkpoints.refuseWaiting();
      this.#out.push({ type: 'beginGeneration', epoch: this.#who.epoch, begin: this.#begin });
    }
  }

  #advanceSync(): void {
    const sync = this.#sync;
    if (sync === null) return;
    sync.advance();
    if (!sync.mark(this.#intake.marks.durable)) return;
    const volume = sync.volume.info.number;
    this.#out.push({ type: 'markSynced', volume, lsn: this.#syncedLsn(sync), isWhole: sync.isWhole });
  }

  /** A generation without a record yet has no LSN to name; it is consistent from its first one on all the same. */
  #syncedLsn(sync: VolumeSync): bigint {
    const lsn = sync.doneLsn ?? 0n;
    return lsn < this.#firstLsn ? this.#firstLsn : lsn;
  }

  /** From where on everything will be ordered when the sync that is ending has ended; null: it is not that far. */
  get #orderedSoonFromLsn(): bigint | null {
    if (this.#stage !== 'open' || this.#sync === null || this.#sync.doneLsn === null) return null;
    return this.#volumes.orderedFromLsnWith(this.#sync.volume.info.number, this.#syncedLsn(this.#sync));
  }

  // --- the writer ---

  get #who(): Hello {
    if (this.#hello === null) throw new Error('nothing happens before Hello');
    return this.#hello;
  }

  #helloCame(hello: Hello): void {
    const refusal = helloFault(hello);
    if (refusal !== null) return this.#refuse(refusal.code, refusal.message);
    this.#hello = hello;
    this.#phase = 'finding';
    this.#out.push({ type: 'find', hello });
  }

  #found(writer: StoredWriter | null, otherIsLive: boolean): void {
    const refusal = fence(this.#who, writer);
    if (refusal !== null) return this.#refuse(refusal.code, refusal.message);
    if (!otherIsLive) return this.#storeEpoch();
    this.#phase = 'displacing';
    const isSame = writer?.epoch === this.#who.epoch;
    this.#out.push({ type: 'closeOther', code: isSame ? null : 'FENCED' });
  }

  #storeEpoch(): void {
    this.#phase = 'storing';
    this.#out.push({ type: 'storeEpoch', hello: this.#who });
  }

  #welcome(position: StoredPosition, hashKey: Buffer): void {
    const { generation, firstLsn, durableLsn, link, ended, volumes, leftSyncedLsns } = position;
    this.#phase = 'ready';
    this.#stage = generation === 0n ? 'none' : ended ? 'ended' : 'open';
    this.#firstLsn = firstLsn;
    this.#volumes = new MemberVolumes(volumes, leftSyncedLsns);
    this.#intake = new Intake(
      this.#who.epoch,
      generation,
      firstLsn,
      durableLsn,
      link,
      this.limits.appendBytesMax,
    );
    const { states } = this.#volumes;
    this.#send({
      welcome: {
        ...{ software: this.software, storeVersion: STORE_VERSION },
        protocol: commonProtocol(this.#who) ?? 0,
        ...{ generation, durableLsn, link, hashKey, volumes: states, ended },
      },
    });
  }

  // --- the stream ---

  #message(message: Extract<ReceiverEvent, { type: 'message' }>['message']): void {
    const fault = this.#numbers.check(message.sequence);
    if (fault !== null) return this.#refuse('SESSION_ORDER', fault);
    if ('hello' in message) {
      if (this.#phase === 'new') this.#helloCame(message.hello);
      else this.#refuse('SESSION_ORDER', 'a second Hello');
    } else if (this.#phase !== 'ready') this.#refuse('SESSION_ORDER', 'the agent spoke before the Welcome');
    else if ('heartbeat' in message) this.#heartbeat(message.heartbeat);
    else if ('checkpoint' in message) this.#checkpoints.add(message.checkpoint, this.#stage === 'open');
    else if ('streamEnd' in message) this.#streamEnd(message.streamEnd);
    else if ('generationBegin' in message) this.#generationBegin(message.generationBegin);
    else if ('logPositions' in message) this.#out.push({ type: 'noteLogs', logs: message.logPositions.logs });
    else if ('volumeDoubt' in message) this.#doubt(message.volumeDoubt);
    else if ('goodbye' in message) this.#close('CLOSED', message.goodbye.reason);
    else if (this.#stage !== 'open') this.#refuse('SESSION_ORDER', 'a sync outside a generation');
    else if ('verifyRequest' in message || 'verifyDone' in message) this.#verify(message);
    else if ('syncBegin' in message) this.#syncBegin(message.syncBegin);
    else {
      const wrong =
        this.#sync === null
          ? 'no sync is under way'
          : 'syncData' in message
            ? this.#sync.data(message.syncData)
            : 'hashRequest' in message
              ? this.#sync.hash(message.hashRequest, this.#firstLsn)
              : this.#sync.done(message.syncDone, this.#firstLsn);
      if (wrong !== null) this.#refuse('SESSION_ORDER', wrong);
    }
  }

  #frame(header: FrameHeader): void {
    this.#numbers.frameCame();
    if (this.#phase !== 'ready') return this.#refuse('SESSION_ORDER', 'a frame before the Welcome');
    if (this.#stage !== 'open') return this.#refuse('FRAME_GENERATION', 'a frame outside a generation');
    const fault = this.#intake.frame(header);
    if (fault !== null) return this.#refuse(fault.code, fault.message);
    this.#out.push({ type: 'append' });
  }

  #appended(durableLsn: bigint): void {
    this.#intake.appended(durableLsn);
    this.#ack();
  }

  #heartbeat({ shippedLsn, capturedLsn, capturedTimeNs, oldestTimeNs, nowNs }: Heartbeat): void {
    if ([capturedLsn, capturedTimeNs, oldestTimeNs, nowNs].some((number) => number > NUMBER_MAX)) {
      return this.#refuse('MESSAGE_INVALID', 'a heartbeat with a number beyond all reason');
    }
    if (this.#stage === 'ended') {
      // An agent in the generation that has ended here (damage was found) would be told of it by its next frames only.
      const ended = `generation ${this.#intake.generation} has ended here`;
      return this.#refuse('GENERATION_UNKNOWN', ended);
    }
    const fault = this.#stage === 'open' ? this.#intake.heartbeat(shippedLsn, capturedLsn) : null;
    if (fault !== null) return this.#refuse(fault.code, fault.message);
    this.#out.push({ type: 'noteHeartbeat', isCapturing: this.#stage === 'open' });
    this.#heartbeats += 1;
    this.#ack();
  }

  #ack(): void {
    const { durable, received } = this.#intake.marks;
    this.#send({ ack: { durableLsn: durable, receivedLsn: received, heartbeats: this.#heartbeats } });
  }

  // --- generations ---

  #streamEnd(end: StreamEnd): void {
    const { generation, marks } = this.#intake;
    if (end.reason.length > REASON_CHARACTERS_MAX)
      return this.#refuse('MESSAGE_INVALID', 'a reason too long');
    if (end.generation !== generation || end.lastLsn !== marks.received || this.#begin !== null) {
      return this.#refuse('SESSION_ORDER', `the end of ${end.generation} at ${end.lastLsn}, not where it is`);
    }
    if (this.#stage === 'ended') return; // told again after a reconnect
    if (this.#stage !== 'open') return this.#refuse('SESSION_ORDER', 'a second StreamEnd');
    this.#stage = 'ending';
    this.#end = end;
  }

  #generationBegin(begin: GenerationBegin): void {
    const { generation, marks } = this.#intake;
    if (begin.reason.length > REASON_CHARACTERS_MAX)
      return this.#refuse('MESSAGE_INVALID', 'a reason too long');
    if (begin.generation <= generation || begin.firstLsn <= marks.received || this.#begin !== null) {
      return this.#refuse('SESSION_ORDER', `generation ${begin.generation} from ${begin.firstLsn} on`);
    }
    if (!sameVolumes(begin.volumes, this.#who.volumes)) {
      return this.#refuse('VOLUME_MISMATCH', 'the generation has other volumes than the session');
    }
    if (this.#stage === 'open') this.#stage = 'beginning';
    this.#begin = begin;
  }

  #generationBegun(volumes: StoredVolume[]): void {
    if (this.#begin === null) return;
    const { generation, firstLsn } = this.#begin;
    this.#begin = null;
    this.#isWaiting = false;
    this.#sync = null;
    this.#verification.drop();
    this.#stage = 'open';
    this.#firstLsn = firstLsn;
    this.#volumes = new MemberVolumes(volumes, []);
    this.#intake = new Intake(
      this.#who.epoch,
      generation,
      firstLsn,
      firstLsn - 1n,
      0,
      this.limits.appendBytesMax,
    );
    this.#send({ generationAccepted: { generation, volumes: this.#volumes.states } });
  }

  // --- syncs ---

  #syncBegin(begin: SyncBegin): void {
    const volume = this.#volumes.get(begin.volume);
    if (volume === undefined) return this.#refuse('SESSION_ORDER', `volume ${begin.volume} is not known`);
    if (this.#sync !== null) return this.#refuse('SESSION_ORDER', 'a sync while another is under way');
    const fault = VolumeSync.fault(volume, begin);
    if (fault !== null) return this.#refuse('SESSION_ORDER', `volume ${begin.volume} ${fault}`);
    this.#sync = new VolumeSync(volume, begin, this.limits, (action) => void this.#out.push(action));
  }

  #verify(message: { verifyRequest: VerifyRequest } | { verifyDone: VerifyDone }): void {
    const wrong =
      'verifyRequest' in message
        ? this.#verification.request(
            message.verifyRequest,
            this.#volumes.get(message.verifyRequest.volume),
            this.#firstLsn,
          )
        : this.#verification.done(
            message.verifyDone,
            this.#volumes.get(message.verifyDone.volume),
            this.#firstLsn,
          );
    if (wrong !== null) this.#refuse('SESSION_ORDER', wrong);
  }

  #doubt({ volume }: VolumeDoubt): void {
    const stored = this.#volumes.get(volume);
    if (stored === undefined) return this.#refuse('SESSION_ORDER', `volume ${volume} is not known`);
    stored.whole = true;
    if (this.#sync?.volume.info.number === volume) this.#sync.widen();
    this.#out.push({ type: 'storeDoubt', volume });
  }

  #baseSynced(volume: number, offset: bigint): void {
    this.#sync?.baseSynced(offset);
    if (this.#stage === 'open') this.#send({ syncAck: { volume, offset } });
  }

  #syncedMarked(): void {
    const sync = this.#sync;
    if (sync === null) return;
    const lsn = this.#syncedLsn(sync);
    sync.marked(lsn);
    this.#sync = null;
    if (this.#stage === 'open') this.#send({ syncComplete: { volume: sync.volume.info.number, lsn } });
  }

  // --- the end ---

  #send(body: ReceiverBody): void {
    this.#out.push({ type: 'send', message: { ...body, sequence: this.#numbers.next() } });
  }

  #refuse(code: string, message: string): void {
    if (this.#phase === 'closed') return;
    this.#send({ refused: { code, message, retryable: isErrorCode(code) && ERRORS[code].retryable } });
    this.#close(code, message);
  }

  #close(code: string, message: string): void {
    this.#checkpoints.lost();
    this.#phase = 'closed';
    this.#out.push({ type: 'close', code, message });
  }
}
