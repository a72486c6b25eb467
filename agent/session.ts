/**
 * The agent's side of the replication session, as a pure state machine: events in, actions out, no I/O, no clock, no
 * randomness. One per member, for the life of the process; it outlives connections. Vocabulary: session_events.ts.
 * Story: docs/PROTOCOL.md.
 *
 * Its promises:
 * - Epoch, generation and LSNs are on stable storage before they are used.
 * - The ring forgets only what the receiver has acknowledged as durable, or what belongs to a stream given up.
 * - A stream goes on only where the receiver's journal ends within what the ring still holds. Everything else is a new
 *   generation, and there what is in doubt is compared.
 * - A receiver that says what it must not loses the connection, never the process.
 */
import { strict as assert } from 'node:assert';
import type { ProtectionState } from '../proto/control.js';
import { MessageNumbers } from '../proto/message_numbers.js';
import { PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST } from '../proto/replication.js';
import type {
  Ack,
  AgentBody,
  DirtyLogPosition,
  GenerationAccepted,
  ReceiverMessage,
  Refused,
  VolumeInfo,
  VolumeState,
  Welcome,
} from '../proto/replication.js';
import { assertWatermarks, higher } from '../proto/watermarks.js';
import type { Watermarks } from '../proto/watermarks.js';
import { CheckpointRequests } from './checkpoint_requests.js';
import { GenerationChange } from './generation_change.js';
import { Interruption } from './interruption.js';
import { LogClaims } from './log_claims.js';
import { LsnReserve } from './lsn_reserve.js';
import { faultOfStates, faultOfWelcome } from './receiver_claims.js';
import { ReceiverConduct } from './receiver_conduct.js';
import { endOfContinuity } from './resumption.js';
import type {
  AgentAction,
  AgentEvent,
  GenerationNumbers,
  MemberIdentity,
  RingView,
  StoredState,
} from './session_events.js';
import { assertLimits, SESSION_LIMITS } from './session_limits.js';
import type { SessionLimits } from './session_limits.js';
import { Shipment } from './shipment.js';
import { StateJournal } from './state_journal.js';
import type { Purpose } from './state_journal.js';
import { FIRST_STATE, startedState, withFound } from './stored_state.js';
import { SyncPlan } from './sync_plan.js';
import type { ResyncReport } from './sync_plan.js';
import { VerifyExchange } from './verify_exchange.js';

type Phase =
  | 'opening' // the epoch is being persisted
  | 'offline' // a connection was asked for
  | 'greeting' // Hello was sent
  | 'abandoning' // waiting for the end of a stream that was given up
  | 'reserving' // a generation is being persisted
  | 'beginning' // GenerationBegin was sent
  | 'streaming'
  | 'leaving' // a disconnect was asked for, or Goodbye sent
  | 'ended'; // stopped, or fenced

const CONNECTED: readonly Phase[] = ['greeting', 'abandoning', 'reserving', 'beginning', 'streaming'];
/** Phases in which the receiver owes an answer (in `streaming`, to the heartbeats). */
const OWED: readonly Phase[] = ['greeting', 'beginning', 'streaming'];

export class AgentSession {
  #out: AgentAction[] = [];
  #phase: Phase = 'opening';
  /** The stream that this process continues, if its predecessor stopped cleanly. */
  #resume: GenerationNumbers | null = null;
  #identity: MemberIdentity | null = null;
  /** A generation of which the stream is closed already: what is left of it is sent, and no sync of it is worth anything. */
  #outgrown = 0n;
  /** Production was let in by a predecessor, and its stream is there. */
  #isSucceeding = false;
  /** Production was let in. */
  #isOpen = false;
  #stop:
    | 'no'
    | 'quiescing' // production may go on for hours: it is protected as before
    | 'draining' // production has ended: what was captured is made durable
    | 'persisting'
    | 'stopped' = 'no';
  readonly #numbers = new MessageNumbers();
  readonly #store: StateJournal;
  readonly #shipment: Shipment;
  readonly #change: GenerationChange;
  readonly #reserve: LsnReserve;
  readonly #conduct: ReceiverConduct;
  readonly #syncs: SyncPlan;
  readonly #checkpoints: CheckpointRequests;
  readonly #verification: VerifyExchange;
  readonly #interruption: Interruption;
  /** Where the dirty logs stood when the receiver was told of them last, on this connection. */
  #toldLogs: DirtyLogPosition[] = [];
  readonly #logClaims = new LogClaims();

  constructor(private readonly limits: SessionLimits = SESSION_LIMITS) {
    assertLimits(limits);
    const emit = (action: AgentAction): void => void this.#out.push(action);
    const send = (body: AgentBody): void => this.#send(body);
    this.#store = new StateJournal(emit);
    this.#shipment = new Shipment(limits, emit);
    this.#change = new GenerationChange(limits.lsnReserve, this.#shipment, this.#store);
    this.#reserve = new LsnReserve(limits.lsnReserve, this.#shipment, this.#store);
    this.#conduct = new ReceiverConduct(limits);
    this.#interruption = new Interruption(emit);
    this.#checkpoints = new CheckpointRequests(limits.checkpointsMax, { emit, send });
    this.#verification = new VerifyExchange({ emit, send });
    this.#syncs = new SyncPlan(limits, {
      emit,
      send,
      refuse: (message) => this.#leave('SESSION_ORDER', message),
      hasRoom: () => this.#shipment.window.transportHasRoom,
      sendPiece: (volume, offset, wireBytes) => {
        emit({ type: 'sendPiece', sequence: this.#numbers.next(), volume, offset });
        this.#shipment.window.pieceWritten(wireBytes);
      },
    });
  }

  /** Whether the stream flows. */
  get isStreaming(): boolean {
    return this.#phase === 'streaming';
  }
  /** Stopped, or fenced. */
  get hasEnded(): boolean {
    return this.#phase === 'ended';
  }
  get marks(): Readonly<Watermarks> {
    return this.#shipment.marks;
  }
  /** Of the ring's stream; 0n: none. */
  get generation(): bigint {
    return this.#shipment.generation;
  }
  /** The volume that is being synced, and how many wait for it. */
  get sync(): { active: SyncPlan['active']; waiting: number } {
    return { active: this.#syncs.active, waiting: this.#syncs.waiting };
  }
  /** Of the volume's last resync; null: there was none. */
  resyncReport(volume: number): ResyncReport | null {
    return this.#syncs.report(volume);
  }
  get state(): ProtectionState {
    if (this.#shipment.stream.state !== 'live') return 'tracking';
    if (!this.isStreaming) return 'disconnected';
    if (this.#syncs.pending === null) return 'protected';
    return this.#syncs.pending === 'initial' ? 'initial-sync' : 'resync';
  }

  /** Whether the receiver will not believe what the volume's log said before it became void. */
  knowsVoid(volume: number): boolean {
    return this.#logClaims.isVoid(volume);
  }

  /** Takes one event; returns what is to be done about it, in order. Throws AssertionError on defects only. */
  handle(event: AgentEvent): AgentAction[] {
    this.#out = [];
    this.#take(event);
    this.#advance();
    assertWatermarks(this.#shipment.marks);
    return this.#out;
  }

  #take(event: AgentEvent): void {
    switch (event.type) {
      case 'started':
        return this.#started(event.stored ?? FIRST_STATE, event);
      case 'persisted':
        return this.#persisted(this.#store.answered());
      case 'persistFailed':
        return this.#persistFailed(this.#store.answered(), event.code, event.message);
      case 'opened':
        return this.#opened();
      case 'openFailed':
        return this.#openFailed();
      case 'connected':
        return this.#connected(event.logs);
      case 'disconnected':
        return this.#disconnected(event.code, event.message);
      case 'message':
        return this.#message(event.message);
      case 'frameReady':
        if (this.isStreaming) this.#tellLogs(event.logs);
        if (this.#shipment.frameReady(event.frame)) this.#numbers.frameSent();
        return;
      case 'streamEnded':
        return this.#streamEnded(event);
      case 'streamLost':
        this.#shipment.streamLost();
        this.#conduct.lost(event.code);
        return this.#leave(event.code, event.message);
      case 'sent':
        if (this.#isConnected) this.#shipment.window.sent(event.bytes);
        return this.#syncs.advance();
      case 'pieceRead':
        return this.#syncs.pieceRead(event.turn, event.wireBytes, event.rawBytes);
      case 'extentsRead':
        return this.#syncs.extentsRead(event.turn, event.extents);
      case 'compared':
        return this.#syncs.compared(event.turn, event.streamClosed, event.differing);
      case 'fenced':
        return this.#syncs.fenced(event.turn, event.lsn);
      case 'syncFailed':
        return this.#syncs.failed(event.turn, event.code, event.message);
      case 'reshaped':
        return this.#reshaped(event.volumes, event.logs);
      case 'checkpointRequested':
        return this.#checkpoints.requested(event.requestId, event.name, this.isStreaming);
      case 'positionRead':
        return this.#checkpoints.positionRead(event);
      case 'verifyAsked': {
        const { state } = this;
        return this.#verification.asked(event.question, state === 'protected' ? '' : `the group is ${state}`);
      }
      case 'stopRequested':
        return this.#stopRequested();
      case 'quiesced':
        return this.#quiesced(event.ring);
      case 'stopExpired':
        return this.#persistStop(false);
      case 'tick':
        return this.#tick(event.nowNs, event.ring, event.logs);
    }
  }

  /** What follows from where things stand, whatever happened. */
  #advance(): void {
    const { stream, marks, isDrained } = this.#shipment;
    if (this.#stop === 'draining') {
      if (stream.state !== 'live') this.#persistStop(false);
      else if (marks.durable === marks.captured) this.#persistStop(true);
    } else if (this.#phase === 'streaming' && stream.state === 'ended' && isDrained) {
      const { generation, lastLsn, reason, timeNs } = stream;
      this.#syncs.stop();
      this.#verification.lost();
      this.#shipment.halt();
      this.#send({ streamEnd: { generation, lastLsn, reason, timeNs } });
      this.#change.reason = reason;
      this.#phase = 'reserving';
      this.#change.reserve();
    } else if (this.#phase === 'abandoning' && stream.state === 'none') {
      this.#phase = 'reserving';
      this.#change.reserve();
    }
    this.#shipment.advance();
  }

  // --- start and stop ---

  #started(
    stored: StoredState,
    { identity, logs, inherited }: Extract<AgentEvent, { type: 'started' }>,
  ): void {
    assert(this.#identity === null, 'a session starts once');
    const { state, resume } = startedState(stored, logs, identity, this.limits.lsnReserve, inherited);
    this.#isSucceeding = inherited !== null;
    if (inherited?.hasEnded === true) this.#outgrown = inherited.generation;
    this.#identity = identity;
    this.#resume = resume;
    this.#store.persist('open', state);
  }

  #open(): void {
    // Where production was never let in, what was clean is clean.
    if (this.#stop !== 'no' && !this.#isSucceeding) return this.#persistStop(this.#resume !== null);
    const { timeNs, era } = this.#store.state;
    const goesOn = this.#isSucceeding;
    this.#out.push({ type: 'open', lastTimeNs: timeNs, era, resume: this.#resume, goesOn });
  }

  #opened(): void {
    this.#isOpen = true;
    const { durableLsn, lsnCeiling } = this.#store.state;
    this.#shipment.open(durableLsn, lsnCeiling, this.#resume);
    if (this.#stop === 'quiescing') this.#out.push({ type: 'quiesce' });
    this.#connect();
  }

  /** There is no ring: production was not let in, and what was clean still is. */
  #openFailed(): void {
    this.#persistStop(this.#resume !== null && !this.#isSucceeding);
  }

  #stopRequested(): void {
    if (this.#stop !== 'no') return;
    this.#stop = 'quiescing';
    if (this.#isOpen) this.#out.push({ type: 'quiesce' });
    else if (this.#identity === null || this.#phase === 'ended') this.#stopped(false);
  }

  #quiesced(ring: RingView): void {
    if (this.#stop !== 'quiescing') return;
    this.#ringSeen(ring);
    this.#syncs.close();
    this.#stop = 'draining';
    // The native group may have closed the stream without anybody having pulled its end yet.
    if (!ring.streaming) this.#persistStop(false);
  }

  #persistStop(clean: boolean): void {
    if (this.#stop === 'persisting' || this.#stop === 'stopped') return;
    this.#stop = 'persisting';
    const { marks } = this.#shipment;
    if (clean && this.isStreaming) {
      this.#send({ goodbye: { reason: 'CLOSED' } });
      this.#halt();
      this.#phase = 'leaving'; // the receiver ends the stream at it
    }
    if (clean && this.#isOpen) {
      assert(marks.durable === marks.captured, 'a clean stop leaves nothing behind');
      this.#store.note({ durableLsn: marks.durable });
    }
    this.#store.persist(clean ? 'cleanStop' : 'stop', { clean });
  }

  #stopped(clean: boolean): void {
    this.#leave('CLOSED', 'the agent stops');
    this.#phase = 'ended';
    this.#stop = 'stopped';
    this.#out.push({ type: 'stopped', clean });
  }

  // --- stable storage ---

  #persisted(purpose: Purpose | null): void {
    switch (purpose) {
      case null:
      case 'accepted':
      case 'reshaped':
      case 'welcomed':
        return;
      case 'open':
        return this.#open();
      case 'ceiling':
        return this.#reserve.stored();
      case 'generation':
        return this.#askForGeneration();
      case 'cleanStop':
        return this.#stopped(true);
      case 'stop':
        return this.#stopped(false);
    }
  }

  #persistFailed(purpose: Purpose | null, code: string, message: string): void {
    // Without its first state the agent must not let production in: the state on disk may say `clean`.
    this.#out.push({ type: 'fail', code, message, final: purpose === 'open' });
    if (purpose === 'open') {
      this.#phase = 'ended';
      if (this.#stop !== 'no') this.#stopped(false);
    } else if (purpose === 'ceiling') this.#reserve.failed();
    else if (purpose === 'generation') this.#leave(code, message);
    else if (purpose === 'cleanStop' || purpose === 'stop') this.#stopped(false);
  }

  // --- connection ---

  get #who(): MemberIdentity {
    assert(this.#identity !== null, 'nothing happens before the start');
    return this.#identity;
  }

  /** Production is in, or may still come in. */
  get #isServing(): boolean {
    return this.#stop === 'no' || this.#stop === 'quiescing';
  }

  get #isConnected(): boolean {
    return CONNECTED.includes(this.#phase);
  }

  #connect(): void {
    this.#phase = 'offline';
    if (this.#stop === 'persisting') return;
    this.#out.push({ type: 'connect', attempt: this.#conduct.nextAttempt() });
  }

  /** Nobody who has an older copy of this state shall pass for this process: see receiver/log_claims.ts. */
  #tellLogs(logs: DirtyLogPosition[]): void {
    const isNews = logs.some(({ id, sequence }, index) => {
      const told = this.#toldLogs[index];
      return told?.id !== id || told.sequence !== sequence;
    });
    if (!isNews) return;
    this.#toldLogs = logs;
    this.#send({ logPositions: { logs } });
  }

  #connected(logs: DirtyLogPosition[]): void {
    if (this.#phase !== 'offline') return;
    this.#phase = 'greeting';
    this.#conduct.heard();
    this.#numbers.reset();
    this.#shipment.window.reset();
    this.#toldLogs = this.#logsAtHello(logs);
    this.#logClaims.hello(this.#toldLogs);
    const { stream, marks, generation, usedLsnMax } = this.#shipment;
    this.#send({
      hello: {
        ...this.#who,
        protocol: PROTOCOL_VERSION,
        protocolOldest: PROTOCOL_VERSION_OLDEST,
        epoch: this.#store.state.epoch,
        generation,
        durableLsn: marks.durable,
        capturedLsn: marks.captured,
        usedLsnMax,
        continuous: stream.state === 'live' || stream.state === 'ended',
        acceptedGeneration: this.#store.state.acceptedGeneration,
        ancestors: this.#store.state.processes.slice(1),
        logs: this.#toldLogs,
      },
    });
  }

  /**
   * Not what was marked since the logs were found, by this process or by one before it that the receiver does not know
   * (stored_state.ts), until a Hello that said so was welcomed. A log that became another one, or void, before that is what it is
   * now: nobody shall count on the old one.
   */
  #logsAtHello(logs: DirtyLogPosition[]): DirtyLogPosition[] {
    const found = this.#store.state.unwelcomedLogs;
    return logs.map((log) => found.find(({ volume, id }) => volume === log.volume && id === log.id) ?? log);
  }

  #disconnected(code: string, message: string): void {
    if (this.#phase === 'ended') return;
    if (this.#phase !== 'leaving') this.#out.push({ type: 'fail', code, message, final: false });
    this.#halt();
    this.#connect();
  }

  /** Ends the connection from this side; `disconnected` follows. */
  #leave(code: string, message: string): void {
    if (!this.#isConnected) return;
    this.#halt();
    this.#phase = 'leaving';
    if (code !== 'CLOSED') this.#out.push({ type: 'fail', code, message, final: false });
    this.#out.push({ type: 'disconnect', code, message });
  }

  /** Stops what runs on a connection. */
  #halt(): void {
    this.#syncs.stop();
    this.#checkpoints.lost();
    this.#verification.lost();
    this.#shipment.halt();
  }

  #send(body: AgentBody): void {
    this.#out.push({ type: 'send', message: { ...body, sequence: this.#numbers.next() } });
  }

  #message(message: ReceiverMessage): void {
    if (!this.#isConnected) return; // still on its way when the connection was given up
    const fault = this.#numbers.check(message.sequence);
    if (fault !== null) return this.#leave('SESSION_ORDER', fault);
    this.#conduct.heard();
    if ('refused' in message) this.#refused(message.refused);
    else if ('welcome' in message) this.#welcomed(message.welcome);
    else if (this.#phase === 'greeting')
      this.#leave('SESSION_ORDER', 'the receiver spoke before its Welcome');
    else if ('ack' in message) this.#ack(message.ack);
    else if ('generationAccepted' in message) this.#accepted(message.generationAccepted);
    else if ('checkpointDone' in message) this.#checkpoints.done(message.checkpointDone);
    else if ('checkpointRequest' in message) {
      this.#checkpoints.asked(message.checkpointRequest, this.isStreaming);
    } else if ('verifyReply' in message) {
      this.#verification.replied(message.verifyReply, this.#change.peer.hashKey);
    } else if (!this.isStreaming || this.#syncs.isClosed) {
      return; // about a sync that was stopped
    } else if ('syncAck' in message) this.#syncs.syncAck(message.syncAck);
    else if ('hashReply' in message) this.#syncs.hashReply(message.hashReply);
    else this.#syncs.syncComplete(message.syncComplete);
  }

  #refused(refused: Refused): void {
    const { code, message } = refused;
    if (code === 'FENCED' || code === 'FRAME_FENCED') return this.#fenced(code, message);
    this.#conduct.refused(refused);
    this.#leave(code, message);
  }

  /** Another writer has the member: whatever this one sends is wrong. */
  #fenced(code: string, message: string): void {
    this.#halt();
    this.#out.push({ type: 'disconnect', code, message }, { type: 'fail', code, message, final: true });
    this.#shipment.giveUp(code);
    this.#phase = 'ended';
  }

  #ack(ack: Ack): void {
    const before = this.#shipment.marks.durable;
    const fault = this.#shipment.ack(ack) ?? this.#logClaims.ack(ack.heartbeats);
    if (fault !== null) return this.#leave('WATERMARK_INVALID', fault);
    this.#conduct.acknowledged();
    if (ack.durableLsn > before) this.#conduct.progressed();
  }

  // --- generations ---

  #streamEnded(event: Extract<AgentEvent, { type: 'streamEnded' }>): void {
    const before = this.#shipment.stream.state;
    const { generation, lastLsn, reason, timeNs } = event;
    this.#shipment.streamEnded(generation, lastLsn, reason, timeNs);
    const isNews = before === 'live' && generation === this.generation;
    if (isNews) this.#interruption.ended(generation, reason);
  }

  /** A session has the volumes that its Hello says. */
  #reshaped(volumes: VolumeInfo[], logs: DirtyLogPosition[]): void {
    const before = this.#who.volumes;
    const added = logs.filter((log) => before.every(({ number }) => number !== log.volume));
    this.#identity = { ...this.#who, volumes };
    this.#logClaims.keep(volumes.map(({ number }) => number));
    // So that a successor, which finds these, goes on with what the ring holds.
    const unwelcomedLogs = withFound(this.#store.state.unwelcomedLogs, added);
    this.#store.persist('reshaped', { volumes, unwelcomedLogs });
    this.#outgrown = this.generation;
    this.#leave('CLOSED', 'its volumes are others now');
  }

  #welcomed(welcome: Welcome): void {
    if (this.#phase !== 'greeting') return this.#leave('SESSION_ORDER', 'a second Welcome');
    const fault = faultOfWelcome(welcome, this.#who.volumes);
    if (fault !== null) return this.#leave(fault.code, fault.message);
    this.#change.peer = welcome;
    this.#logClaims.welcome();
    // Those of volumes that are away were not in this Hello.
    const { unwelcomedLogs: untold } = this.#store.state;
    const unwelcomedLogs = untold.filter((log) =>
      this.#who.volumes.every(({ number }) => number !== log.volume),
    );
    if (unwelcomedLogs.length < untold.length) this.#store.persist('welcomed', { unwelcomedLogs });
    const { stream, marks, shippedLsnMax } = this.#shipment;
    const stubborn = stream.state === 'none' ? null : this.#conduct.endOfStream;
    const reason = stubborn ?? endOfContinuity(stream, marks.durable, shippedLsnMax, welcome);
    if (reason === null) return this.#ship(welcome.durableLsn, welcome.link, welcome.volumes);
    this.#change.reason = reason;
    this.#phase = 'abandoning';
    if (stream.state === 'live') this.#interruption.ended(stream.generation, reason);
    this.#shipment.giveUp(reason);
  }

  #ship(durableLsn: bigint, link: number, states: VolumeState[]): void {
    this.#phase = 'streaming';
    this.#shipment.start(durableLsn, link);
    if (this.#shipment.stream.state !== 'live' || this.generation === this.#outgrown) return;
    this.#syncs.start(this.generation, this.#who.volumes, states, this.#change.peer.hashKey);
  }

  #askForGeneration(): void {
    if (this.#phase !== 'reserving') return; // that connection is gone
    this.#phase = 'beginning';
    const { generation, firstLsn } = this.#change.numbers;
    const { volumes } = this.#who;
    this.#send({ generationBegin: { generation, firstLsn, reason: this.#change.reason, volumes } });
  }

  #accepted({ generation, volumes }: GenerationAccepted): void {
    const { numbers } = this.#change;
    if (this.#phase !== 'beginning' || generation !== numbers.generation) {
      return this.#leave('SESSION_ORDER', `generation ${generation} was not asked for`);
    }
    const fault = faultOfStates('GenerationAccepted', volumes, this.#who.volumes);
    if (fault !== null) return this.#leave(fault.code, fault.message);
    this.#conduct.progressed();
    this.#store.persist('accepted', { acceptedGeneration: generation });
    this.#shipment.begin(numbers);
    this.#ship(numbers.firstLsn - 1n, 0, volumes);
  }

  // --- time ---

  #tick(nowNs: bigint, ring: RingView, logs: DirtyLogPosition[]): void {
    this.#ringSeen(ring);
    if (this.#isServing) this.#reserve.advance();
    this.#syncs.tick();
    if (this.isStreaming) this.#heartbeat(nowNs, ring, logs);
    if (this.#conduct.isSilent(OWED.includes(this.#phase))) {
      this.#leave('SESSION_LOST', `no word from the receiver for ${this.limits.silenceTicksMax} ticks`);
    }
  }

  #heartbeat(nowNs: bigint, ring: RingView, logs: DirtyLogPosition[]): void {
    const { captured, shipped } = this.#shipment.marks;
    this.#logClaims.heartbeat(logs);
    this.#send({
      heartbeat: {
        capturedLsn: captured,
        capturedTimeNs: ring.capturedTimeNs,
        shippedLsn: shipped,
        oldestTimeNs: ring.oldestTimeNs,
        nowNs,
        ringUsedBytes: ring.usedBytes,
        ringBytes: ring.bytes,
        // The native group closes a stream before anybody here hears of it: `nowNs` is not covered by its last LSN.
        state: ring.streaming ? this.state : 'tracking',
        logs,
      },
    });
  }

  #ringSeen(ring: RingView): void {
    const { stream } = this.#shipment;
    if (stream.state !== 'live') return;
    if (!ring.streaming) this.#interruption.seen(stream.generation, ring.endReason);
    this.#shipment.captured(ring.capturedLsn);
    this.#store.note({ timeNs: higher(this.#store.state.timeNs, ring.capturedTimeNs), era: ring.era });
  }
}
