/**
 * Ingest: one replication stream, from gRPC into journal, bases and catalog. The session machine decides
 * (receiver/session.ts); this carries its actions out in their order and hands every result back. What must keep an
 * order runs in one lane: each volume's base, the hashes, the generations. Frames keep theirs in the journal's writer.
 */
import { strict as assert } from 'node:assert';
import { randomBytes, randomUUID } from 'node:crypto';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { AfterimageError, isErrorCode, toAfterimageError } from '../proto/errors.js';
import { readFrameHeader } from '../proto/frame_header.js';
import type { AgentMessage, Hello, ReceiverMessage } from '../proto/replication.js';
import { formatUuid } from '../proto/uuid.js';
import type { Log } from '../service/log.js';
import { toCatalogError } from './catalog/database.js';
import { FlowGate } from './flow.js';
import { Lanes } from './lanes.js';
import type { LiveSession, Members } from './members.js';
import type { ReceiverAction, ReceiverEvent, StoredWriter } from './session_events.js';
import { missing, SessionWork, storeWriter, type SessionWorkParts } from './session_work.js';

export type ReplicationStream = ServerDuplexStream<AgentMessage, ReceiverMessage>;

/** receiver/session.ts */
export interface SessionMachine {
  handle(event: ReceiverEvent): ReceiverAction[];
}
export interface IngestParts extends SessionWorkParts {
  members: Members;
  newMachine: () => SessionMachine;
  /** How long a stream may be without a Hello. */
  helloMs: number;
  /** The host that may write what the Hello names; null: one without identity may. Errors: GROUP_FORBIDDEN, IDENTITY_REFUSED. */
  ownerOf: (peer: string | null, hello: Hello) => string | null;
}

const HASH_KEY_BYTES = 32;

interface Waiting {
  resolve(): void;
  reject(error: AfterimageError): void;
}

export class Ingest implements LiveSession {
  /** Settles when the session has ended, and everything that it asked for. */
  readonly ended: Promise<void>;
  private settleEnded: () => void = () => undefined;

  private readonly machine: SessionMachine;
  private readonly gate: FlowGate;
  private readonly lanes = new Lanes();
  private readonly events: { event: ReceiverEvent; message: AgentMessage | null }[] = [];
  private isHandling = false;
  private isClosed = false;
  private hello: Hello | null = null;
  /** The host whose identity it is; null: it came without one. */
  private owner: string | null = null;
  /** The sessions that had claimed the member before. */
  private earlier: LiveSession[] = [];
  private work: SessionWork | null = null;
  /** Checkpoints that somebody here asked for, by request. */
  private readonly asked = new Map<string, Waiting>();
  private log: Log;
  private readonly helloTimer: NodeJS.Timeout;

  constructor(
    private readonly parts: IngestParts,
    private readonly stream: ReplicationStream,
    /** Whom the agent's certificate names, a UUID; null: it came without one. */
    private readonly peer: string | null,
  ) {
    this.log = parts.log;
    this.machine = parts.newMachine();
    this.gate = new FlowGate(stream);
    this.ended = new Promise((resolve) => (this.settleEnded = resolve));
    this.helloTimer = setTimeout(() => {
      const message = `no Hello within ${parts.helloMs} ms`;
      this.handle({ type: 'failed', code: 'SESSION_LOST', message }, null);
    }, parts.helloMs);
    stream.on('data', (message: AgentMessage) => this.receive(message));
    stream.on('drain', () => this.gate.block(false));
    stream.on('end', () => this.lost());
    stream.on('cancelled', () => this.lost());
    stream.on('error', () => this.lost());
  }

  get writer(): StoredWriter {
    const { epoch, instance } = this.knownHello;
    return { epoch, instance };
  }

  displace(code: 'FENCED' | null): Promise<void> {
    this.handle({ type: 'displaced', code }, null);
    return this.ended;
  }

  askCheckpoint(name: string): Promise<void> {
    if (this.isClosed) return Promise.reject(new AfterimageError('AGENT_AWAY', 'the session has ended'));
    return new Promise((resolve, reject) => {
      const requestId = randomUUID();
      this.asked.set(requestId, { resolve, reject });
      this.handle({ type: 'checkpointAsked', requestId, name }, null);
    });
  }

  /** Ends the session as if the agent had gone, and waits for what is under way. */
  drain(): Promise<void> {
    this.lost();
    return this.ended;
  }

  private receive(message: AgentMessage): void {
    if (this.isClosed) return;
    if (!('frame' in message)) return this.handle({ type: 'message', message }, message);
    let header;
    try {
      header = readFrameHeader(message.frame.buffer);
    } catch (thrown) {
      return this.fail(thrown);
    }
    this.handle({ type: 'frame', header }, message);
  }

  private lost(): void {
    if (this.isClosed) return;
    this.handle({ type: 'closed' }, null);
    this.close('SESSION_LOST', 'the stream has ended');
  }

  /** One event at a time: what an action brings about at once waits until the actions before it are carried out. */
  private handle(event: ReceiverEvent, message: AgentMessage | null): void {
    this.events.push({ event, message });
    if (this.isHandling) return;
    this.isHandling = true;
    try {
      for (let next = this.events.shift(); next !== undefined; next = this.events.shift()) {
        for (const action of this.machine.handle(next.event)) this.perform(action, next.message);
      }
    } catch (thrown) {
      this.events.length = 0;
      this.isHandling = false;
      this.broken(thrown);
    } finally {
      this.isHandling = false;
    }
  }

  /** An action could not be carried out at once: neither those behind it nor what waits are. */
  private broken(thrown: unknown): void {
    const { code } = toCatalogError(thrown);
    // The agent is told of a disk that takes nothing, while there is anybody to be told.
    if ((code === 'JOURNAL_FULL' || code === 'JOURNAL_IO') && !this.isClosed) return this.fail(thrown);
    // A broken assertion of this program ends one session, not the receiver.
    this.log.error({ err: thrown }, 'a session met a defect');
    this.close('INTERNAL', toAfterimageError(thrown).message);
  }

  private fail(thrown: unknown): void {
    const { code, message } = toCatalogError(thrown);
    this.handle({ type: 'failed', code, message }, null);
  }

  private perform(action: ReceiverAction, message: AgentMessage | null): void {
    switch (action.type) {
      case 'send':
        return this.send(action.message);
      case 'close':
        return this.close(action.code, action.message);
      case 'checkpointResult':
        return this.settleCheckpoint(action.requestId, action.code, action.message);
      case 'find':
        return this.find(action.hello);
      case 'closeOther':
        return this.start('session', async () => {
          await Promise.all(this.earlier.map((other) => other.displace(action.code)));
          return { type: 'otherClosed' };
        });
      case 'storeEpoch':
        return this.start('session', () => this.storeEpoch(action.hello));
      case 'append':
        return this.append(message);
      case 'noteHeartbeat':
        if (message !== null && 'heartbeat' in message) {
          this.known.noteHeartbeat(message.heartbeat, action.isCapturing);
        }
        return;
      case 'noteLogs':
        return this.known.noteLogs(action);
      case 'storeDoubt':
        return this.known.storeDoubt(action);
      case 'endGeneration':
        return this.start('session', () => Promise.resolve(this.known.endGeneration(action.end)));
      case 'beginGeneration':
        return this.start('session', () => this.known.beginGeneration(action.epoch, action.begin));
      case 'keepCheckpoint':
        return this.start('session', () => Promise.resolve(this.known.keepCheckpoint(action.checkpoint)));
      case 'beginBase':
        return this.start(`base ${action.volume}`, () => this.known.beginBase(action));
      case 'writeBase': {
        if (message === null || !('syncData' in message)) throw missing('sync data');
        const { syncData } = message;
        this.known.member.received.add(syncData.data.length);
        return this.startBeside(
          `base ${action.volume}`,
          () => this.known.writeBase(action, syncData),
          syncData.data.length,
        );
      }
      case 'syncBase':
        return this.start(`base ${action.volume}`, () => this.known.syncBase(action));
      case 'markSynced':
        return this.start(`base ${action.volume}`, () => this.known.markSynced(action));
      case 'verify':
        return this.start('verify', () => this.known.verify(action), action.request.length);
      case 'storeVerified':
        return this.start('verify', () => this.known.storeVerified(action));
      case 'hash':
        return this.startBeside('hash', () => this.known.hash(action), action.length);
    }
  }

  /** Runs `work` in its lane and hands its answer back; `bytes` count as taken in until then. */
  private start(lane: string, work: () => Promise<ReceiverEvent>, bytes = 0): void {
    this.gate.enter(bytes);
    this.lanes.run(lane, async () => {
      (await this.answerOf(work))();
      this.gate.leave(bytes);
    });
  }

  /** Likewise, beside what is started like this in its lane too; answers keep their order. */
  private startBeside(lane: string, work: () => Promise<ReceiverEvent>, bytes: number): void {
    this.gate.enter(bytes);
    this.lanes.runBeside(lane, async () => {
      const answer = await this.answerOf(work);
      return () => {
        answer();
        this.gate.leave(bytes);
      };
    });
  }

  /** Hands the answer of `work` back, or its failure. After the end only what was begun is finished. */
  private async answerOf(work: () => Promise<ReceiverEvent>): Promise<() => void> {
    if (this.isClosed) return () => undefined;
    try {
      const event = await work();
      return () => this.handle(event, null);
    } catch (thrown) {
      return () => this.fail(thrown);
    }
  }

  private append(message: AgentMessage | null): void {
    if (message === null || !('frame' in message)) throw missing('frame');
    const { buffer } = message.frame;
    const { known } = this;
    this.gate.enter(buffer.length);
    known.member.received.add(buffer.length);
    const appended = known.append(buffer).then(
      (event) => this.handle(event, null),
      (thrown: unknown) => {
        const { code, message: text } = toCatalogError(thrown);
        this.handle({ type: 'appendFailed', code, message: text }, null);
      },
    );
    this.lanes.join(appended.finally(() => this.gate.leave(buffer.length)));
  }

  private find(hello: Hello): void {
    this.hello = hello;
    clearTimeout(this.helloTimer);
    this.log = this.parts.log.child({ group: hello.groupName, host: hello.host });
    try {
      this.owner = this.parts.ownerOf(this.peer, hello);
      if (this.owner !== null) this.log = this.parts.log.child({ group: hello.groupName, host: this.owner });
      const stored = this.parts.sessions.find(hello);
      this.earlier = this.parts.members.claim(formatUuid(hello.member), this);
      const writer = newestWriter(stored, this.earlier);
      this.handle({ type: 'found', writer, otherIsLive: this.earlier.length > 0 }, null);
    } catch (thrown) {
      const { code, message } = toAfterimageError(thrown);
      this.handle({ type: 'foundMismatch', code, message }, null);
    }
  }

  private async storeEpoch(hello: Hello): Promise<ReceiverEvent> {
    const { members, sessions } = this.parts;
    const uuid = formatUuid(hello.member);
    members.get(uuid)?.journal.persist();
    if (!(await storeWriter(this.parts, hello, this.owner))) return { type: 'epochOutdated' };
    const member = await members.open(sessions.member(uuid));
    if (this.isClosed) throw new AfterimageError('SESSION_LOST', 'the stream has ended');
    // Those that came before have ended, those that come later wait until this one has.
    assert(member.live === null, 'two sessions hold one member');
    member.live = this;
    member.lastEnd = '';
    member.journal.resume(hello.epoch);
    const hashKey = randomBytes(HASH_KEY_BYTES);
    this.work = new SessionWork(this.parts, hello, member, hashKey);
    this.log.info({ epoch: hello.epoch, generation: hello.generation }, 'agent connected');
    return { type: 'epochStored', position: await this.work.position(hello.epoch), hashKey };
  }

  private send(message: ReceiverMessage): void {
    if (this.stream.destroyed || this.stream.writableEnded) return;
    if (!this.stream.write(message)) this.gate.block(true);
  }

  private close(code: string, message: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.helloTimer);
    if (this.work !== null) this.log.info({ code, reason: message }, 'session ended');
    else this.log.warn({ code, reason: message }, 'session refused');
    if (!this.stream.writableEnded) this.stream.end();
    this.gate.open();
    void this.finish(code);
  }

  private async finish(code: string): Promise<void> {
    try {
      await this.lanes.idle();
      await this.work?.close();
    } catch (thrown) {
      this.log.error({ err: toAfterimageError(thrown) }, 'a session did not end cleanly');
    } finally {
      for (const requestId of [...this.asked.keys()]) {
        this.settleCheckpoint(requestId, 'SESSION_LOST', 'the session has ended');
      }
      const member = this.work?.member;
      if (member?.live === this) {
        member.live = null;
        member.lastEnd = code;
      }
      if (this.hello !== null) this.parts.members.release(formatUuid(this.hello.member), this);
      this.settleEnded();
    }
  }

  private settleCheckpoint(requestId: string, code: string, message: string): void {
    const waiting = this.asked.get(requestId);
    this.asked.delete(requestId);
    if (code === '') waiting?.resolve();
    else waiting?.reject(new AfterimageError(isErrorCode(code) ? code : 'INTERNAL', message));
  }

  private get knownHello(): Hello {
    if (this.hello === null) throw missing('Hello');
    return this.hello;
  }
  private get known(): SessionWork {
    if (this.work === null) throw missing('member');
    return this.work;
  }
}

/** Whom a new session has to be newer than: who has claimed the member will have stored its epoch. */
function newestWriter(stored: StoredWriter | null, claims: readonly LiveSession[]): StoredWriter | null {
  return claims.reduce<StoredWriter | null>(
    (newest, { writer }) => (newest === null || writer.epoch > newest.epoch ? writer : newest),
    stored,
  );
}
