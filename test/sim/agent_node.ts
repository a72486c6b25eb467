/** An agent daemon, thin: it feeds the session machine and carries out its actions on the model host. */
import { strict as assert } from 'node:assert';
import { AgentSession } from '../../agent/session.js';
import type {
  AgentAction,
  AgentEvent,
  InheritedStream,
  MemberIdentity,
  Range,
  RingView,
  StoredState,
} from '../../agent/session_events.js';
import type { SessionLimits } from '../../agent/session_limits.js';
import { inheritedStream } from '../../agent/takeover.js';
import type { DirtyLogPosition, ReceiverMessage } from '../../proto/replication.js';
import { checkAgentMarks } from './mark_checks.js';
import type { Reached } from './mark_checks.js';
import type { BacklogLimits } from './model_backlog.js';
import { ModelCapture } from './model_capture.js';
import type { Delivery, ModelFrame } from './model_capture.js';
import { ModelDirtyLogs } from './model_dirty_log.js';
import type { StoredLogs } from './model_dirty_log.js';
import type { ModelRing } from './model_backlog.js';
import { BLOCK_BYTES } from './model_host.js';
import type { ModelHost } from './model_host.js';
import { contentHashes } from './model_store.js';
import { ModelVerification } from './model_verification.js';
import type { FoundBlock, VerifyAnswer, VerifyStep } from './model_verification.js';
import type { Endpoint } from './network.js';
import { OrderedAnswers } from './ordered_answers.js';
import type { Random } from './random.js';
import type { Upstream } from './receiver_node.js';
import type { Process, Scheduler } from './scheduler.js';

export type AgentEndpoint = Endpoint<Upstream, ReceiverMessage>;

/** The agent's state directory: it outlives the process, and can be copied. */
export interface StateDirectory {
  stored: StoredState | null;
  logs: StoredLogs;
}

export interface AgentSurroundings {
  scheduler: Scheduler;
  random: Random;
  limits: SessionLimits;
  backlog: BacklogLimits;
  directory: StateDirectory;
  identity: MemberIdentity;
  reached: Reached;
  /** A connection to the receiver, or null when nobody answers. */
  dial: () => AgentEndpoint | null;
  /** Probability that the state, or a backing during a sync, cannot be accessed. */
  failure: () => number;
  /** Probability that a frame is damaged on its way. */
  corruption: () => number;
  onFault: (kind: string) => void;
  onCheckpoint: (requestId: string, code: string) => void;
  onStopped: (clean: boolean) => void;
  /** The session reports a failure. */
  onFail: (code: string, message: string) => void;
}

const TICK_MS = 1000;
const WRITE_MS_MAX = 40;
/** Between two steps of the unmarking of a volume. */
const CLEAN_MS_MAX = 300;
/** Between two steps of the spooler. */
const SPOOL_MS_MAX = 30;
/** Between the first request that a successor serves and its session. */
const TAKEOVER_MS_MAX = 60;
/** How long production goes on after a stop was asked for. */
const USE_MS_MAX = 10_000;

export class AgentNode {
  readonly session: AgentSession;
  #capture: ModelCapture | null = null;
  #endpoint: AgentEndpoint | null = null;
  #isServing = false;
  #isOpen = false;
  #shippingTurn = 0;
  /** What was sent on this connection, or where it began; null while nothing is shipped. */
  #shippedLsn: bigint | null = null;
  #isQuiet = false;
  #isStopping = false;
  #isFenced = false;
  #unsynced = new Set<number>();
  /** Of the steps of syncs, by volume. */
  readonly #syncAnswers = new Map<number, OrderedAnswers>();
  #verifying: { answer: (answer: VerifyAnswer) => void } | null = null;
  readonly #logs: ModelDirtyLogs;

  constructor(
    readonly host: ModelHost,
    private readonly process: Process,
    private readonly around: AgentSurroundings,
  ) {
    this.session = new AgentSession(around.limits);
    this.#logs = new ModelDirtyLogs(around.directory.logs);
  }

  get isAlive(): boolean {
    return this.process.isAlive;
  }
  get isFenced(): boolean {
    return this.#isFenced;
  }
  get isSettled(): boolean {
    const { state, marks } = this.session;
    return (
      state === 'protected' &&
      !this.#isStopping &&
      this.#capture?.isStreaming === true &&
      marks.durable === this.#capture.lastLsn &&
      this.host.inFlight.size === 0
    );
  }

  /** What a predecessor served is served first. */
  start(): void {
    const { ring } = this.host;
    if (ring === null) return this.#begin(false);
    const isContinued = this.#takeOver(ring);
    this.process.after(this.around.random.int(0, TAKEOVER_MS_MAX), () => this.#begin(isContinued));
  }

  #begin(isContinued: boolean): void {
    const { directory, identity } = this.around;
    const inherited = this.#capture === null ? null : this.#inheritedStream(isContinued);
    this.#feed({
      type: 'started',
      stored: directory.stored,
      identity: { ...identity, volumes: this.host.present },
      logs: this.#positions(),
      inherited,
    });
  }

  #positions(): DirtyLogPosition[] {
    return this.#logs.positions(this.host.present);
  }
  #isPresent(volume: number): boolean {
    return this.host.present.some(({ number }) => number === volume);
  }

  /** False: with a ring of its own, since the predecessor's cannot be gone on with. */
  #takeOver(ring: ModelRing): boolean {
    const { directory, onFault } = this.around;
    assert(directory.stored?.clean === false, 'production is in while the state says clean');
    const inherited = ModelCapture.adopt(this.host, ring, ...this.#captureParts());
    onFault(inherited === null ? 'ringRefused' : 'ringInherited');
    if (inherited !== null && this.host.spool.length > 0) onFault('spoolInherited');
    this.#capture = inherited ?? ModelCapture.create(this.host, ...this.#captureParts());
    this.host.resume(this.#capture, this.#logs, this.process);
    this.#isServing = true;
    this.#serve();
    this.#spool();
    return inherited !== null;
  }

  #inheritedStream(isContinued: boolean): InheritedStream | null {
    const { generation, isStreaming, lastLsn, confirmedLsn, lsnCeiling } = this.#group;
    const stream = { generation, streaming: isStreaming, capturedLsn: lastLsn, releasedLsn: confirmedLsn };
    return inheritedStream({ isContinued, captureGroup: { stats: () => ({ ...stream, lsnCeiling }) } });
  }

  #captureParts(): [BacklogLimits, Random, (reason: string) => void] {
    const { backlog, random, onFault } = this.around;
    return [backlog, random, onFault];
  }

  /** No more writes; what is in flight ends. */
  calm(): void {
    this.#isQuiet = true;
  }
  /** One more write. */
  write(): void {
    this.host.write(this.process);
  }
  stop(): void {
    this.#isStopping = true;
    this.#feed({ type: 'stopRequested' });
  }
  expireStop(): void {
    if (this.process.isAlive) this.#feed({ type: 'stopExpired' });
  }
  /** The last volume leaves the group, or comes back, while the agent runs. False: not now. */
  changeVolumes(): boolean {
    const { host, around } = this;
    if (!this.#isOpen || !this.#isServing || this.#isStopping) return false;
    if (!host.isLastAway) {
      if (!host.sendLastAway()) return false;
    } else if (host.bringLastBack()) {
      const last = host.present.at(-1);
      if (last !== undefined) this.#logs.markAll(last.number, last.size);
      around.onFault('changedWhileAway');
    }
    this.#group.closeStream('CLOSED');
    this.#feed({ type: 'reshaped', volumes: host.present, logs: this.#positions() });
    return true;
  }
  askForCheckpoint(requestId: string, name: string): void {
    this.#feed({ type: 'checkpointRequested', requestId, name });
  }
  /** Compares every volume with its replica; `done` is told whether all were, unless the process ends before. */
  verify(
    repair: boolean,
    recorded: (found: readonly FoundBlock[]) => void,
    done: (isWhole: boolean) => void,
  ): void {
    if (this.#verifying !== null || !this.#isServing) return done(false);
    const steps = new ModelVerification(this.around.limits, repair, recorded).run(this.host.present);
    const answer = (given: VerifyAnswer): void => {
      const { done: isOver, value } = steps.next(given);
      if (isOver !== true) return this.#verifyStep(value, answer);
      this.#verifying = null;
      done(value);
    };
    this.#verifying = { answer };
    answer({});
  }

  #verifyStep(step: VerifyStep, answer: (answer: VerifyAnswer) => void): void {
    this.process.after(this.around.random.int(0, 10), () => {
      if ('ask' in step) return this.#feed({ type: 'verifyAsked', question: step.ask });
      const group = this.#group;
      if (!this.#isServing) return answer({ lsn: 0n });
      if ('read' in step) {
        const { volume, block, count } = step.read;
        if (!this.#isPresent(volume)) return answer({ lsn: 0n });
        if (this.host.isLocked(volume, block, count)) return this.#verifyStep(step, answer);
        const lsn = group.isStreaming ? group.lastLsn : 0n;
        return answer({ content: this.host.read(volume, block, count), lsn });
      }
      const { volume, block } = step.repair;
      const lsn = this.host.isLocked(volume, block, 1)
        ? null
        : group.republish(volume, block, this.host.read(volume, block, 1));
      if (lsn === null) return this.#verifyStep(step, answer);
      answer({ lsn });
    });
  }

  crash(): void {
    this.process.end();
    this.host.crash();
    this.#endpoint?.close();
  }
  /** Its descriptors are kept for a successor, as far as it serves anybody. */
  kill(): boolean {
    if (!this.#isServing) {
      this.crash();
      return false;
    }
    this.process.end();
    this.host.suspend();
    this.#endpoint?.close();
    return true;
  }
  losePower(): void {
    this.crash();
    this.around.onFault(this.host.losePower() > 0 ? 'writesLost' : 'nothingLost');
  }

  #feed(event: AgentEvent, frame: ModelFrame | null = null, piece: number[] = []): void {
    for (const action of this.session.handle(event)) {
      if (this.process.isAlive) this.#carryOut(action, frame, piece);
    }
    if (!this.process.isAlive) return;
    const model = { captured: this.#capture?.lastLsn ?? null, shipped: this.#shippedLsn };
    checkAgentMarks(this.session.marks, model, this.around.reached);
  }

  /** Answers after a while. */
  #later(delayMsMax: number, answer: () => AgentEvent | null): void {
    this.process.after(this.around.random.int(0, delayMsMax), () => {
      const event = answer();
      if (event !== null) this.#feed(event);
    });
  }

  #tick(): void {
    this.process.after(TICK_MS, () => {
      const logs = this.#positions();
      this.#feed({ type: 'tick', nowNs: BigInt(this.around.scheduler.nowMs), ring: this.#ring(), logs });
      this.#tick();
    });
  }

  #carryOut(action: AgentAction, frame: ModelFrame | null, piece: number[]): void {
    const { random, directory, corruption, onFault } = this.around;
    switch (action.type) {
      case 'persist':
        return this.#persist(action.state);
      case 'open':
        return this.#open(action);
      case 'connect':
        return this.#connect(action.attempt);
      case 'disconnect':
        return this.#endpoint?.close();
      case 'send':
        assert(!('frame' in action.message), 'frames are sent by sendFrame');
        if ('heartbeat' in action.message) this.#assertHonest(action.message.heartbeat.state);
        if ('goodbye' in action.message && this.#endpoint !== null) this.#endpoint.isListening = false;
        this.#endpoint?.send({ message: action.message });
        return;
      case 'startShipping':
        this.#shippedLsn = action.durableLsn;
        return this.#startShipping(action.durableLsn, action.link);
      case 'stopShipping':
        this.#shippedLsn = null;
        return this.#group.stopShipping();
      case 'pull':
        return this.#group.next((delivery) => this.#pulled(delivery));
      case 'sendFrame': {
        assert(frame !== null, 'sendFrame belongs to a frame');
        this.#shippedLsn = frame.header.lastLsn;
        const isCorrupt = random.chance(corruption());
        if (isCorrupt) onFault('frameCorrupt');
        return this.#sendBulk({ frame: { ...frame, isCorrupt } }, frame.header.bytes);
      }
      case 'dropFrame':
      case 'dropPiece':
        return;
      case 'release':
        return this.#group.release(action.lsn);
      case 'raiseCeiling':
        return this.#group.raiseCeiling(action.lsn);
      case 'beginGeneration':
        assert(
          directory.stored?.generation === action.start.generation,
          'a generation is stored before it is used',
        );
        assert(
          directory.stored.lsnCeiling >= action.start.lsnCeiling,
          'LSNs are reserved before they are used',
        );
        return this.#group.beginGeneration(action.start);
      case 'abandonStream':
        this.#shippedLsn = null;
        this.#shippingTurn += 1;
        return this.#group.giveUp(action.reason);
      case 'forgetStream':
        return this.#group.forget();
      case 'readPiece':
        return this.#readPiece(action);
      case 'sendPiece': {
        const data = Buffer.alloc(piece.length * 4);
        piece.forEach((value, index) => data.writeInt32LE(value, index * 4));
        const { sequence, volume, offset } = action;
        const rawBytes = piece.length * BLOCK_BYTES;
        const syncData = { volume, offset, rawBytes, compressed: false, crc32c: 0, data };
        return this.#sendBulk({ message: { sequence, syncData } }, data.length);
      }
      case 'readExtents':
        return this.#readExtents(action.turn, action.volume);
      case 'volumeSynced':
        return this.#logs.setSynced(action.volume, action.generation);
      case 'compare':
        return this.#compare(action);
      case 'fence':
        return this.#fence(action.turn, action.volume);
      case 'verifyAnswered':
        return this.#verifying?.answer({ code: action.code, hashes: action.hashes });
      case 'readPosition': {
        const { requestId, name } = action;
        return this.#later(5, () => {
          const lsn = this.#group.isStreaming ? this.#group.lastLsn : null;
          return { type: 'positionRead', requestId, name, lsn, timeNs: BigInt(this.around.scheduler.nowMs) };
        });
      }
      case 'checkpointResult':
        return this.around.onCheckpoint(action.requestId, action.code);
      case 'quiesce':
        // Whoever has the volume mounted may go on with it for long.
        this.process.after(random.chance(0.5) ? 0 : random.int(1, USE_MS_MAX), () => {
          this.#isServing = false;
          this.#quiesce();
        });
        return;
      case 'fail':
        this.#isFenced ||= action.final && action.code === 'FENCED';
        this.around.onFail(action.code, action.message);
        return;
      case 'interrupted':
        assert(!this.#group.isStreaming || action.code !== 'RING_FULL', 'a full ring has ended its stream');
        return;
      case 'stopped':
        assert(!action.clean || this.host.inFlight.size === 0, 'a clean stop comes after the last write');
        this.crash();
        return this.around.onStopped(action.clean);
    }
  }

  get #group(): ModelCapture {
    assert(this.#capture !== null, 'the capture group is open');
    return this.#capture;
  }

  #persist(state: StoredState): void {
    const { random, failure, directory, onFault } = this.around;
    this.process.inOrder('persist', random.int(0, 15), () => {
      // The first one has no remedy but another start: the daemon does not even begin.
      if (this.#isOpen && random.chance(failure())) {
        onFault('persistFailure');
        return this.#feed({ type: 'persistFailed', code: 'IO_ERROR', message: 'no space left' });
      }
      directory.stored = state;
      this.#feed({ type: 'persisted' });
    });
  }

  #open({ resume, goesOn }: Extract<AgentAction, { type: 'open' }>): void {
    assert(this.around.directory.stored?.clean === false, 'production is let in while the state says clean');
    const { onFault } = this.around;
    if (this.#capture === null) {
      this.#capture = ModelCapture.create(this.host, ...this.#captureParts());
      this.host.capture = this.#capture;
      this.host.logs = this.#logs;
      if (resume !== null) {
        onFault('resumed');
        this.#capture.beginGeneration(resume);
      }
      this.#isServing = true;
      this.#serve();
      this.#spool();
    } else if (goesOn && resume !== null) {
      this.#capture.resumeGeneration(resume.epoch, resume.lsnCeiling);
    } else {
      this.#capture.abandon();
    }
    for (const { number } of this.host.volumes) this.#clean(number);
    this.#isOpen = true;
    this.#feed({ type: 'opened' });
    this.#tick();
  }

  /** Production: bursts and pauses. */
  #serve(): void {
    const { random } = this.around;
    const pause = random.chance(0.02) ? random.int(200, 2000) : random.int(1, WRITE_MS_MAX);
    this.process.after(pause, () => {
      if (!this.#isServing) return;
      if (!this.#isQuiet) this.host.write(this.process);
      this.#serve();
    });
  }

  /** Moves what the ring has no room for, batch by batch. */
  #spool(): void {
    const { random, failure, onFault } = this.around;
    this.process.after(random.int(1, SPOOL_MS_MAX), () => {
      if (this.#group.spool(random.chance(failure()) ? 'SPOOL_IO' : null)) onFault('spooled');
      this.#spool();
    });
  }

  #connect(attempt: number): void {
    const { random, dial } = this.around;
    const delayMs = attempt === 0 ? 0 : random.int(0, Math.min(10_000, 100 * 2 ** attempt));
    this.process.after(delayMs, () => {
      const endpoint = dial();
      this.#endpoint = endpoint;
      const lost = (): void => {
        if (!this.process.isAlive || this.#endpoint !== endpoint) return;
        this.#endpoint = null;
        this.#feed({ type: 'disconnected', code: 'SESSION_LOST', message: 'gone' });
      };
      if (endpoint === null) return lost();
      endpoint.onMessage = (message) => {
        if (!this.process.isAlive) return;
        this.#observe(message);
        this.#feed({ type: 'message', message });
      };
      endpoint.onClosed = lost;
      this.#feed({ type: 'connected', logs: this.#positions() });
    });
  }

  /** What the receiver says is synced, read beside the session. */
  #observe(message: ReceiverMessage): void {
    const volumes =
      'welcome' in message
        ? message.welcome.volumes
        : 'generationAccepted' in message
          ? message.generationAccepted.volumes
          : null;
    if (volumes !== null)
      this.#unsynced = new Set(volumes.filter((one) => !one.synced).map((one) => one.number));
    else if ('syncComplete' in message) this.#unsynced.delete(message.syncComplete.volume);
  }

  #assertHonest(state: string): void {
    assert(
      state !== 'protected' || this.#unsynced.size === 0,
      'it says protected while a volume is not synced',
    );
  }

  #sendBulk(item: Upstream, bytes: number): void {
    const endpoint = this.#endpoint;
    endpoint?.send(item, () => {
      if (this.process.isAlive && this.#endpoint === endpoint) this.#feed({ type: 'sent', bytes });
    });
  }

  #startShipping(durableLsn: bigint, link: number): void {
    this.#shippingTurn += 1;
    this.#group.startShipping(durableLsn, link);
  }

  #pulled(delivery: Delivery): void {
    const turn = this.#shippingTurn;
    // As a promise would: not within the call that caused it.
    this.process.after(0, () => {
      if ('loss' in delivery) {
        const { code } = delivery.loss;
        this.around.onFault('spoolUnreadable');
        return this.#feed({ type: 'streamLost', code, message: 'a spool file' });
      }
      if ('frame' in delivery && turn !== this.#shippingTurn) {
        this.#group.next((next) => this.#pulled(next)); // framed for an earlier start: the real shipper drops it too
      } else if ('frame' in delivery) {
        const { generation, firstLsn, lastLsn, bytes } = delivery.frame.header;
        const frame = { generation, firstLsn, lastLsn, bytes };
        this.#feed({ type: 'frameReady', frame, logs: this.#positions() }, delivery.frame);
      } else {
        this.#feed({ type: 'streamEnded', ...delivery.end, timeNs: BigInt(this.around.scheduler.nowMs) });
      }
    });
  }

  /** A step of a sync has begun; what it returns takes its answer, once: null where nobody waits for one any more. */
  #syncStep(volume: number): (event: AgentEvent | null, piece?: number[]) => void {
    let answers = this.#syncAnswers.get(volume);
    if (answers === undefined) this.#syncAnswers.set(volume, (answers = new OrderedAnswers()));
    const answer = answers.begin();
    return (event, piece) => answer(() => event !== null && this.#feed(event, null, piece));
  }

  #readPiece({ turn, volume, offset, length }: Extract<AgentAction, { type: 'readPiece' }>): void {
    const { random, failure, onFault } = this.around;
    const answer = this.#syncStep(volume);
    const read = (): void => {
      if (this.#group.isCrowded) return this.process.after(random.int(0, 10), read);
      if (random.chance(failure())) {
        onFault('syncReadFailure');
        return answer({ type: 'syncFailed', turn, code: 'IO_ERROR', message: 'bad sector' });
      }
      const piece = this.host.read(volume, Number(offset) / BLOCK_BYTES, length / BLOCK_BYTES);
      const wireBytes = piece.every((value) => value === 0) ? 0 : piece.length * 4;
      // Read now, answered later: production goes on in between.
      this.process.after(random.int(0, 10), () =>
        answer({ type: 'pieceRead', turn, wireBytes, rawBytes: length }, piece),
      );
    };
    this.process.after(random.int(0, 10), read);
  }

  #compare(action: Extract<AgentAction, { type: 'compare' }>): void {
    const answer = this.#syncStep(action.volume);
    const compare = (): void => {
      const compared = this.#compared(action);
      // What was republished before is published again.
      if (compared === 'later') this.process.after(this.around.random.int(0, 20), compare);
      else answer(compared);
    };
    this.process.after(this.around.random.int(0, 10), compare);
  }

  #compared(action: Extract<AgentAction, { type: 'compare' }>): AgentEvent | 'later' | null {
    const { turn, volume, offset, length, blockBytes, hashes, purpose } = action;
    if (!this.#isServing) return null; // quiesced: nothing may be captured any more
    if (!this.#isPresent(volume)) return null; // it has left its group
    const first = Number(offset) / BLOCK_BYTES;
    const own = contentHashes(this.host.read(volume, first, length / BLOCK_BYTES), blockBytes);
    const sectors = blockBytes / BLOCK_BYTES;
    const differing: Range[] = [];
    for (let index = 0; index * 32 < own.length; index += 1) {
      const range = [index * 32, index * 32 + 32] as const;
      if (own.subarray(...range).equals(hashes.subarray(...range))) continue;
      const count = Math.min(sectors, length / BLOCK_BYTES - index * sectors);
      const block = first + index * sectors;
      differing.push({ offset: BigInt(block * BLOCK_BYTES), length: count * BLOCK_BYTES });
    }
    const compared = { type: 'compared', turn, streamClosed: false, differing } as const;
    if (purpose === 'find') return compared;
    if (purpose === 'probe') {
      if (differing.length === 0 || this.#logs.isMarked(volume, first)) return { ...compared, differing: [] };
      this.around.onFault('probeDiffers');
      return compared;
    }
    for (const { offset: begin, length: bytes } of differing) {
      const [block, count] = [Number(begin) / BLOCK_BYTES, bytes / BLOCK_BYTES];
      const isLocked = this.host.isLocked(volume, block, count);
      const lsn = isLocked
        ? null
        : this.#group.republish(volume, block, this.host.read(volume, block, count));
      if (lsn === 0n) return { ...compared, streamClosed: true };
      if (lsn === null) return 'later';
    }
    return compared;
  }

  #readExtents(turn: number, volume: number): void {
    const answer = this.#syncStep(volume);
    this.process.after(this.around.random.int(0, 10), () => {
      const info = this.host.volumes.find(({ number }) => number === volume);
      if (info === undefined) throw new Error(`no volume ${volume}`);
      const extents = this.#logs.extents(volume, info.size);
      this.around.onFault(extents.bytes < info.size ? 'partialResync' : 'partialResyncOfAll');
      answer({ type: 'extentsRead', turn, extents });
    });
  }

  /** Unmarks a volume's extents round by round: native/capture/dirty_log_cleaner.h. */
  #clean(volume: number): void {
    const { random } = this.around;
    const after = (step: () => void): void => this.process.after(random.int(1, CLEAN_MS_MAX), step);
    after(() => {
      const { generation, isStreaming } = this.#group;
      if (!isStreaming || this.#logs.syncedGeneration(volume) !== generation) return this.#clean(volume);
      this.#logs.cut(volume);
      const lsn = this.#group.lastLsn;
      after(() => {
        this.host.flush();
        const unmark = (): void => {
          const group = this.#group;
          if (!group.isStreaming || group.generation !== generation) return this.#clean(volume);
          if (group.confirmedLsn < lsn) return after(unmark);
          if (this.#logs.unmark(volume, lsn) > 0) this.around.onFault('unmarked');
          this.#clean(volume);
        };
        after(unmark);
      });
    });
  }

  #fence(turn: number, volume: number): void {
    const answer = this.#syncStep(volume);
    const waited = [...this.host.inFlight];
    const poll = (): void =>
      this.process.after(1, () => {
        if (waited.some((change) => this.host.inFlight.has(change))) return poll();
        const group = this.#group;
        answer({ type: 'fenced', turn, lsn: group.isStreaming ? group.lastLsn : null });
      });
    poll();
  }

  #quiesce(): void {
    this.process.after(1, () => {
      if (this.host.inFlight.size > 0) return this.#quiesce();
      this.host.flush(); // as agent/group.ts does: a clean stop leaves nothing that power loss could take
      this.#feed({ type: 'quiesced', ring: this.#ring() });
    });
  }

  #ring(): RingView {
    const group = this.#group;
    const capturedTimeNs = BigInt(this.around.scheduler.nowMs);
    return {
      capturedLsn: group.lastLsn,
      capturedTimeNs,
      oldestTimeNs: 0n,
      usedBytes: BigInt(group.usedBytes),
      bytes: BigInt(this.around.backlog.ringBytes),
      era: 1,
      streaming: group.isStreaming,
      endReason: group.endReason,
    };
  }
}
