/** A receiver daemon, thin: it feeds one session machine per stream and carries out their actions on the model store. */
import { strict as assert } from 'node:assert';
import type { AgentMessage, Hello, ReceiverMessage } from '../../proto/replication.js';
import { ReceiverSession } from '../../receiver/session.js';
import type { ReceiverAction, ReceiverEvent, StoredWriter } from '../../receiver/session_events.js';
import type { SessionLimits } from '../../receiver/session_limits.js';
import { checkReceiverMarks } from './mark_checks.js';
import type { Reached } from './mark_checks.js';
import type { ModelFrame } from './model_capture.js';
import { BLOCK_BYTES } from './model_host.js';
import type { ModelStore } from './model_store.js';
import type { Endpoint } from './network.js';
import type { Random } from './random.js';
import type { Process } from './scheduler.js';

/** What travels from agent to receiver. */
export type Upstream = { message: Exclude<AgentMessage, { frame: unknown }> } | { frame: ModelFrame };
export type ReceiverEndpoint = Endpoint<ReceiverMessage, Upstream>;

export interface ReceiverSurroundings {
  random: Random;
  limits: SessionLimits;
  store: ModelStore;
  reached: Reached;
  /** Delays of the disk, ms, as they are now: a slow disk is a fault too. */
  diskMs: () => number;
  /** Probability that an append or another action on the store fails. */
  failure: () => number;
  onFault: (kind: string) => void;
  onCheckpoint: (requestId: string, code: string) => void;
  /** The session ended with this code. */
  onClose: (code: string, message: string) => void;
}

interface Live {
  session: ReceiverSession;
  endpoint: ReceiverEndpoint;
  /** Actions not yet answered. */
  pending: number;
  /** The disk failed: nothing that was asked for behind it is carried out. */
  hasFailed: boolean;
  /** It has passed `find`; those who had before, and have not ended. */
  claim: { hello: Hello; earlier: Live[] } | null;
  onEnded: (() => void)[];
  /** Who wrote when the member was looked up. */
  writer: StoredWriter | null;
  lane: string;
  /** The last LSN given to the store, or where the stream goes on; null before the session knows. */
  receivedLsn: bigint | null;
}

export class ReceiverNode {
  readonly #live: Live[] = [];
  #streams = 0;

  constructor(
    private readonly process: Process,
    private readonly around: ReceiverSurroundings,
  ) {}

  get isReady(): boolean {
    return this.#live.some(({ session }) => session.isReady);
  }

  accept(endpoint: ReceiverEndpoint): void {
    this.#streams += 1;
    const session = new ReceiverSession('simulator', this.around.limits);
    const lane = `stream ${this.#streams}`;
    const live: Live = {
      session,
      endpoint,
      pending: 0,
      hasFailed: false,
      claim: null,
      writer: null,
      onEnded: [],
      lane,
      receivedLsn: null,
    };
    this.#live.push(live);
    endpoint.onMessage = (item) => {
      if (!this.process.isAlive) return;
      if ('frame' in item) {
        this.around.reached.raise('received', item.frame.header.lastLsn);
        this.#handle(live, { type: 'frame', header: item.frame.header }, item.frame);
      } else this.#handle(live, { type: 'message', message: item.message }, null);
    };
    endpoint.onClosed = () => {
      if (this.process.isAlive) this.#handle(live, { type: 'closed' }, null);
    };
  }

  askForCheckpoint(requestId: string, name: string): void {
    const live = this.#live.find(({ session }) => session.isReady);
    if (live !== undefined) this.#handle(live, { type: 'checkpointAsked', requestId, name }, null);
  }

  crash(): void {
    this.process.end();
    for (const { endpoint } of this.#live) endpoint.close();
    this.around.store.crash(this.around.random);
    this.around.reached.raise('durable', this.around.store.durableLsn);
  }

  #handle(live: Live, event: ReceiverEvent, frame: ModelFrame | null): void {
    const { store, reached } = this.around;
    const isOld = live.session.isClosed;
    // Where the stream goes on, as the store has it and not as the session understands it.
    if (event.type === 'epochStored' || event.type === 'generationBegun') live.receivedLsn = store.durableLsn;
    for (const action of live.session.handle(event)) this.#carryOut(live, action, event, frame);
    assert(!isOld || live.session.isClosed, 'a closed session stays closed');
    if (!live.session.isClosed && live.receivedLsn !== null) {
      const generation = store.generations.at(-1);
      const model = {
        received: live.receivedLsn,
        durable: store.durableLsn,
        orderedFrom: generation?.orderedFromLsn ?? null,
        first: generation?.firstLsn ?? 1n,
      };
      checkReceiverMarks(live.session.marks, model, reached);
    }
    this.#settle(live);
  }

  /** A session has ended when it is closed and everything it asked for was answered. */
  #settle(live: Live): void {
    if (!live.session.isClosed || live.pending > 0) return;
    const index = this.#live.indexOf(live);
    if (index >= 0) this.#live.splice(index, 1);
    for (const ended of live.onEnded.splice(0)) ended();
  }

  /** Carries something out after the disk's delay, in order, and answers. */
  #later(live: Live, kind: string, work: () => ReceiverEvent): void {
    live.pending += 1;
    const { random, diskMs, failure, onFault } = this.around;
    this.process.inOrder(`${live.lane} ${kind}`, random.int(0, diskMs()), () => {
      live.pending -= 1;
      if (live.hasFailed) return this.#settle(live);
      if (random.chance(failure())) {
        live.hasFailed = true;
        onFault('storeFailure');
        this.#handle(live, { type: 'failed', code: 'JOURNAL_IO', message: 'the disk says no' }, null);
      } else {
        this.#handle(live, work(), null);
      }
    });
  }

  #carryOut(live: Live, action: ReceiverAction, event: ReceiverEvent, frame: ModelFrame | null): void {
    const { store, random, onCheckpoint } = this.around;
    switch (action.type) {
      case 'find':
        return this.#later(live, 'catalog', () => {
          const earlier = this.#live.filter(({ claim }) => claim !== null);
          live.claim = { hello: action.hello, earlier };
          live.writer = earlier.reduce<StoredWriter | null>(
            (newest, { claim }) =>
              claim !== null && (newest === null || claim.hello.epoch > newest.epoch) ? claim.hello : newest,
            store.writer,
          );
          return { type: 'found', writer: live.writer, otherIsLive: earlier.length > 0 };
        });
      case 'closeOther':
        return this.#closeOthers(live, action.code);
      case 'storeEpoch':
        assertMayWrite(action.hello, live.writer);
        return this.#later(live, 'catalog', () =>
          store.storeEpoch(action.hello)
            ? {
                type: 'epochStored',
                position: store.position(action.hello.volumes),
                hashKey: random.bytes(32),
              }
            : { type: 'epochOutdated' },
        );
      case 'send':
        return this.#send(live, action.message);
      case 'append':
        assert(frame !== null, 'append belongs to a frame');
        return this.#append(live, frame);
      case 'endGeneration':
        return this.#later(live, 'catalog', () => {
          assert(store.durableLsn === action.end.lastLsn, 'a generation ends when all of it is durable');
          store.endGeneration();
          return { type: 'generationEnded' };
        });
      case 'beginGeneration':
        return this.#later(live, 'catalog', () => {
          this.around.reached.begin(action.begin.firstLsn);
          return {
            type: 'generationBegun',
            volumes: store.beginGeneration(action.begin),
          };
        });
      case 'beginBase':
        return this.#later(live, 'base', () => {
          store.beginBase(action.volume);
          return { type: 'baseBegun', volume: action.volume };
        });
      case 'writeBase': {
        assert(event.type === 'message' && 'syncData' in event.message, 'writeBase belongs to a SyncData');
        const { data } = event.message.syncData;
        const values = Array.from({ length: data.length / 4 }, (_, index) => data.readInt32LE(index * 4));
        return this.#later(live, 'base', () => {
          store.writeBase(action.volume, action.offset, values);
          return { type: 'baseWritten', volume: action.volume };
        });
      }
      case 'syncBase':
        return this.#later(live, 'base', () => {
          store.syncBase(action.volume, action.offset);
          return { type: 'baseSynced', volume: action.volume, offset: action.offset };
        });
      case 'markSynced':
        this.#assertDurable(action.lsn);
        return this.#later(live, 'base', () => {
          store.markSynced(action.volume, action.lsn, action.isWhole);
          return { type: 'syncedMarked', volume: action.volume };
        });
      case 'hash':
        return this.#later(live, 'hash', () => {
          assert(action.blockBytes % BLOCK_BYTES === 0, 'blocks of whole sectors');
          const { id, volume, offset, length, blockBytes, beforeLsn } = action;
          return { type: 'hashed', id, hashes: store.hashes(volume, offset, length, blockBytes, beforeLsn) };
        });
      case 'keepCheckpoint':
        return this.#later(live, 'catalog', () => {
          store.keepCheckpoint(action.checkpoint);
          return { type: 'checkpointKept', requestId: action.checkpoint.requestId };
        });
      case 'checkpointResult':
        return onCheckpoint(action.requestId, action.code);
      case 'noteHeartbeat':
        if (event.type === 'message' && 'heartbeat' in event.message) {
          store.heartbeatLogs(event.message.heartbeat.logs);
        }
        return;
      case 'noteLogs':
        return store.heartbeatLogs(action.logs);
      case 'verify':
        return this.#later(live, 'hash', () => {
          const { id, volume, lsn, offset, length, blockBytes } = action.request;
          assert(lsn <= store.durableLsn, 'a point that is not durable is compared');
          const hashes = store.hashes(volume, offset, length, blockBytes, lsn + 1n);
          return { type: 'verified', reply: { id, code: '', message: '', hashes } };
        });
      case 'storeVerified':
        return this.#later(live, 'catalog', () => {
          store.storeVerified(action.done);
          const reply = { id: action.done.id, code: '', message: '', hashes: Buffer.alloc(0) };
          return { type: 'verified', reply };
        });
      case 'storeDoubt':
        return store.storeDoubt(action.volume);
      case 'close':
        this.around.onClose(action.code, action.message);
        return live.endpoint.close(true);
    }
  }

  /** The first LSN of a generation stands for its beginning, where nothing has to be durable yet. */
  #assertDurable(lsn: bigint): void {
    const { store } = this.around;
    assert(
      lsn <= store.durableLsn || lsn === store.position([]).firstLsn,
      'a volume is synced before its fence is durable',
    );
  }

  #closeOthers(live: Live, code: 'FENCED' | null): void {
    const others = live.claim?.earlier.filter((other) => this.#live.includes(other)) ?? [];
    let left = others.length;
    const ended = (): void => {
      left -= 1;
      if (left === 0) this.#handle(live, { type: 'otherClosed' }, null);
    };
    live.pending += 1; // it waits: nobody may think that it has ended
    this.process.after(0, () => {
      live.pending -= 1;
      if (others.length === 0) this.#handle(live, { type: 'otherClosed' }, null);
      for (const other of others) {
        other.onEnded.push(ended);
        this.#handle(other, { type: 'displaced', code }, null);
      }
    });
  }

  #send(live: Live, message: ReceiverMessage): void {
    if ('ack' in message) {
      assert(message.ack.durableLsn <= this.around.store.durableLsn, 'R4: acknowledged before it is durable');
    }
    live.endpoint.send(message);
  }

  #append(live: Live, frame: ModelFrame): void {
    const { store, random, diskMs, failure, onFault } = this.around;
    live.receivedLsn = frame.header.lastLsn;
    if (live.hasFailed) return; // JOURNAL_STOPPED
    const code = random.chance(failure()) ? 'JOURNAL_FULL' : store.append(frame);
    if (code === 'JOURNAL_FULL') onFault('journalFull');
    live.hasFailed = code !== null;
    live.pending += 1;
    this.process.inOrder(`${live.lane} append`, random.int(0, diskMs()), () => {
      live.pending -= 1;
      if (code !== null) return this.#handle(live, { type: 'appendFailed', code, message: 'refused' }, null);
      store.commit();
      this.around.reached.raise('durable', store.durableLsn);
      this.#handle(live, { type: 'appended', durableLsn: store.durableLsn }, null);
    });
  }
}

/** The fence, once more and without the session's code. */
function assertMayWrite({ epoch, instance }: Hello, writer: StoredWriter | null): void {
  const isNewer = writer === null || epoch > writer.epoch;
  assert(
    isNewer || (epoch === writer.epoch && instance.equals(writer.instance)),
    'a writer that was to be fenced',
  );
}
