/**
 * One host's share of a protection group: feeds the session machine with what happens, and has done what it wants
 * done. Decides nothing itself: session.ts does, and native/capture keeps production going without either of them.
 */
import { AfterimageError, isErrorCode, toAfterimageError } from '../proto/errors.js';
import type { DirtyLogPosition, OutgoingMessage, ReceiverMessage, VolumeInfo } from '../proto/replication.js';
import type { Log } from '../service/log.js';
import {
  CaptureWork,
  isCaptureAction,
  type Bulk,
  type CaptureAction,
  type CapturedVolumes,
} from './capture_work.js';
import { Checkpoints } from './checkpoints.js';
import type { Clock } from './clock.js';
import type { LagHistogram } from './lag.js';
import type { LinkListener } from './link.js';
import { MemberReport } from './member_report.js';
import type { AgentSession } from './session.js';
import type { AgentAction, AgentEvent, Range, StoredState } from './session_events.js';
import { Verification } from './verification.js';
import type { VerifyQuestion } from './verify_exchange.js';
import { Throughput } from '../service/throughput.js';

const TICK_MS = 1_000;

export type OpenAction = Extract<AgentAction, { type: 'open' }>;

/** What a member leaves to its group. */
export interface MemberPort {
  persist(state: StoredState): Promise<void>;
  /** Creates the capture group, with the generation to go on with. Errors: RING_UNAVAILABLE. */
  capture(action: OpenAction): CapturedVolumes;
  /** Lets production in. */
  serve(): Promise<void>;
  /** Production is served, or (null: it is) cannot be. */
  served(error: AfterimageError | null): void;
  /** Ends production's way in. */
  quiesce(): Promise<void>;
  /** Nobody reads or writes a volume any more. */
  quiesced(): Promise<void>;
  /** A second has passed. */
  ticked(): void;
  stopped(clean: boolean): void;
  /** Its session is over, by a defect. */
  failed(): void;
}
export interface MemberLink {
  connect(attempt: number): void;
  disconnect(error: AfterimageError): void;
  /** A second has passed. */
  ticked(): void;
  send(message: OutgoingMessage): Promise<void>;
}

export class Member implements LinkListener {
  readonly checkpoints: Checkpoints;
  readonly verification: Verification;
  /** Of frame bytes sent. */
  readonly throughput: Throughput;
  /** What `throughput` knows of. */
  private countedBytes = 0n;
  readonly report: MemberReport;
  private link: MemberLink | null = null;
  private work: CaptureWork | null = null;
  private isDefunct = false;
  private stopRequested = false;
  private hasProtected = false;
  private isEnded = false;
  private isHandling = false;
  private readonly queue: { event: AgentEvent; bulk: Bulk }[] = [];
  private readonly ending = new AbortController();

  constructor(
    readonly session: AgentSession,
    private readonly port: MemberPort,
    private readonly lag: LagHistogram,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    const request = (requestId: string, name: string): void => {
      if (this.isDefunct) throw new AfterimageError('RECEIVER_UNREACHABLE', this.report.detail);
      this.feed({ type: 'checkpointRequested', requestId, name }, null);
    };
    this.checkpoints = new Checkpoints(request, clock);
    const unavailable = (): string => {
      if (this.isDefunct) return this.report.detail;
      if (session.state !== 'protected') return `the group is ${session.state}`;
      // The session hears of the end of a stream when the rest of it was sent.
      return this.capture?.stats.streaming === true ? '' : 'the group is tracking';
    };
    const verifying = {
      unavailable,
      generation: () => session.generation,
      ask: (question: VerifyQuestion) => this.ask(question),
      read: (volume: number, offset: bigint, into: Buffer) =>
        this.captureWork().readSettled(volume, offset, into),
      repair: (volume: number, range: Range) => this.captureWork().repair(volume, range),
    };
    this.verification = new Verification(verifying, clock);
    this.report = new MemberReport(log, () => clock.monotonicMs());
    this.throughput = new Throughput(() => clock.monotonicMs());
  }

  /** Null before the capture group was opened, and from end() on. */
  get capture(): CaptureWork | null {
    return this.isEnded ? null : this.work;
  }
  /** Whether a defect ended its session: it is served, and nothing replicates it. */
  get hasFailed(): boolean {
    return this.isDefunct;
  }
  /** Whether all was synced once. */
  get wasProtected(): boolean {
    return this.hasProtected;
  }
  /** Whether its end was asked for. */
  get isStopping(): boolean {
    return this.stopRequested;
  }

  /** The first event. `link` reports to this member. */
  start(event: Extract<AgentEvent, { type: 'started' }>, link: MemberLink): void {
    this.link = link;
    this.feed(event, null);
  }

  /** Asks for a clean stop; the port hears of its end. False when the session has failed: there is none to wait for. */
  requestStop(): boolean {
    this.stopRequested = true;
    this.feed({ type: 'stopRequested' }, null);
    return !this.isDefunct;
  }
  /** The stream has ended, and its volumes are these from now on. */
  reshaped(volumes: VolumeInfo[], logs: DirtyLogPosition[]): void {
    this.feed({ type: 'reshaped', volumes, logs }, null);
  }
  /** The time for it is over. */
  expireStop(): void {
    this.feed({ type: 'stopExpired' }, null);
  }
  /** No more ticks; what still arrives changes nothing any more. */
  end(): void {
    this.isEnded = true;
    this.isDefunct = true;
    this.verification.end(new AfterimageError('INTERRUPTED', 'the agent stops'));
    this.ending.abort();
  }

  /**
   * A defect of this program, or a backing that cannot even be flushed: the session is over, and this member with it.
   * Production goes on; the ring fills and the native group then only tracks.
   */
  fail(thrown: unknown): void {
    if (this.isDefunct) return;
    const error = toAfterimageError(thrown);
    this.report.failed({ code: error.code, message: error.message, final: true });
    this.log.error(
      { err: error },
      'the session has failed; until another begins the volumes are served and not protected',
    );
    this.isDefunct = true;
    this.verification.end(error);
    this.ending.abort();
    try {
      this.work?.forsake();
    } catch (again) {
      this.log.error({ err: again }, 'after the failure');
    }
    this.link?.disconnect(error);
    this.port.failed();
  }

  opened(): void {
    this.feed({ type: 'connected', logs: this.captureWork().logs() }, null);
  }
  received(message: ReceiverMessage): void {
    if (this.isDefunct) return;
    try {
      this.report.received(message);
      if ('ack' in message) this.work?.shipper.acknowledge(message.ack.durableLsn);
    } catch (thrown) {
      return this.fail(thrown);
    }
    this.feed({ type: 'message', message }, null);
  }
  closed({ code, message }: AfterimageError): void {
    this.report.disconnected();
    this.feed({ type: 'disconnected', code, message }, null);
  }

  /** Events are handled one after the other, also those that an action brings about at once. */
  private feed(event: AgentEvent, bulk: Bulk): void {
    this.queue.push({ event, bulk });
    if (this.isHandling) return;
    this.isHandling = true;
    try {
      for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
        if (this.isDefunct) releaseBulk(next.bulk);
        else this.handle(next.event, next.bulk);
      }
    } finally {
      this.isHandling = false;
    }
  }

  private handle(event: AgentEvent, bulk: Bulk): void {
    let untaken = bulk;
    try {
      if (event.type === 'positionRead') this.checkpoints.located(event.requestId, event.lsn, event.timeNs);
      for (const action of this.session.handle(event)) {
        if (!isCaptureAction(action)) this.carryOut(action);
        else {
          this.captureWork().carryOut(action, bulk);
          if (action.type === 'sendFrame' || action.type === 'dropFrame') untaken = null;
        }
      }
      if (this.session.state === 'protected') this.protects();
    } catch (thrown) {
      this.fail(thrown);
      releaseBulk(untaken); // the next session needs the buffer
    }
  }

  private protects(): void {
    this.hasProtected = true;
    this.report.synced(this.session.generation);
  }

  private carryOut(action: Exclude<AgentAction, CaptureAction>): void {
    switch (action.type) {
      case 'persist':
        return this.persist(action.state);
      case 'open':
        return this.open(action);
      case 'connect':
        return this.link?.connect(action.attempt);
      case 'disconnect': {
        const code = isErrorCode(action.code) ? action.code : 'INTERNAL';
        return this.link?.disconnect(new AfterimageError(code, action.message));
      }
      case 'send':
        this.report.sent(action.message);
        // The link reports a loss by itself; a message that was lost with it is not sent again.
        this.link?.send(action.message).catch(() => undefined);
        return;
      case 'checkpointResult':
        return this.checkpoints.answer(action.requestId, action.code, action.message);
      case 'verifyAnswered':
        return this.verification.answered(action);
      case 'quiesce':
        return this.quiesce();
      case 'fail':
        return this.report.failed(action);
      case 'interrupted':
        return this.report.interrupted(action.generation, action.code, action.message);
      case 'stopped':
        return this.port.stopped(action.clean);
    }
  }

  private ask(question: VerifyQuestion): void {
    if (this.isDefunct) return; // end() or fail() tells whoever asks
    this.feed({ type: 'verifyAsked', question }, null);
  }

  private persist(state: StoredState): void {
    this.port.persist(state).then(
      () => this.feed({ type: 'persisted' }, null),
      (thrown: unknown) => {
        const { code, message } = toAfterimageError(thrown);
        this.feed({ type: 'persistFailed', code, message }, null);
      },
    );
  }

  private open(action: OpenAction): void {
    try {
      this.work = new CaptureWork(
        this.port.capture(action),
        (message) => this.sendBulk(message),
        (event, bulk) => this.feed(event, bulk),
        this.lag,
        this.clock,
        (thrown) => this.fail(thrown),
      );
    } catch (thrown) {
      this.feed({ type: 'openFailed' }, null);
      return this.port.served(toAfterimageError(thrown));
    }
    this.feed({ type: 'opened' }, null);
    void this.tick(); // now, since one volume may be in use long before the last is served
    this.port.serve().then(
      () => this.port.served(null),
      (thrown: unknown) => this.port.served(toAfterimageError(thrown)),
    );
  }

  /** Every second until the end. Never rejects. */
  private async tick(): Promise<void> {
    for (;;) {
      try {
        await this.clock.sleep(TICK_MS, this.ending.signal);
      } catch {
        return;
      }
      if (this.ending.signal.aborted) return;
      try {
        const work = this.captureWork();
        const { shippedBytes } = work.shipper;
        this.throughput.add(Number(shippedBytes - this.countedBytes));
        this.countedBytes = shippedBytes;
        this.port.ticked();
        this.link?.ticked();
        const logs = work.logs();
        this.feed({ type: 'tick', nowNs: this.clock.nowNs(), ring: work.ring(), logs }, null);
      } catch (thrown) {
        return this.fail(thrown);
      }
    }
  }

  private quiesce(): void {
    // One after the other: while somebody uses a volume its syncs go on, and with them its protection.
    const quiesced = async (): Promise<void> => {
      await this.port.quiesce();
      await this.work?.quiesce();
      await this.port.quiesced();
      this.feed({ type: 'quiesced', ring: this.captureWork().ring() }, null);
    };
    quiesced().catch((thrown: unknown) => this.fail(thrown));
  }

  private sendBulk(message: OutgoingMessage): Promise<void> {
    return (
      this.link?.send(message) ?? Promise.reject(new AfterimageError('SESSION_LOST', 'there is no link'))
    );
  }

  private captureWork(): CaptureWork {
    if (this.work === null) throw new Error('the capture group is not open yet');
    return this.work;
  }
}

function releaseBulk(bulk: Bulk): void {
  if (bulk !== null && 'frame' in bulk) bulk.frame.release();
}
