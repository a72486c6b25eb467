/** An agent's session on a script: what happens to it, and what it said last. */
import { AgentSession } from '../../agent/session.js';
import type {
  AgentAction,
  AgentEvent,
  MemberIdentity,
  RingView,
  StoredState,
} from '../../agent/session_events.js';
import { SESSION_LIMITS } from '../../agent/session_limits.js';
import type { DirtyLogPosition, ReceiverBody, VolumeState } from '../../proto/replication.js';

export const IDENTITY: MemberIdentity = {
  software: 'test',
  group: Buffer.alloc(16, 1),
  groupName: 'shop',
  member: Buffer.alloc(16, 2),
  host: 'db1',
  instance: Buffer.alloc(16, 3),
  volumes: [{ number: 0, uuid: Buffer.alloc(16, 4), name: 'data', size: 3n * 1024n * 1024n, blockSize: 512 }],
};
export const EMPTY: VolumeState = {
  number: 0,
  base: 'BASE_EMPTY',
  syncOffset: 0n,
  synced: false,
  whole: false,
};
export const COMPLETE: VolumeState = {
  number: 0,
  base: 'BASE_COMPLETE',
  syncOffset: 0n,
  synced: false,
  whole: false,
};
export const SYNCED: VolumeState = { ...COMPLETE, synced: true };

export class Script {
  readonly session = new AgentSession({ ...SESSION_LIMITS, lsnReserve: 1000n });
  actions: AgentAction[] = [];
  #sequence = 0;

  /** The actions that follow from `event`, also kept in `actions`. */
  feed(event: AgentEvent): AgentAction[] {
    this.actions = this.session.handle(event);
    return this.actions;
  }
  /** The receiver speaks. */
  hear(body: ReceiverBody): AgentAction[] {
    this.#sequence += 1;
    return this.feed({ type: 'message', message: { ...body, sequence: this.#sequence - 1 } });
  }
  /** Up to the Hello. */
  start(stored: StoredState | null): void {
    this.feed({ type: 'started', stored, identity: IDENTITY, logs: [], inherited: null });
    this.feed({ type: 'persisted' });
    this.feed({ type: 'opened' });
    this.connect();
  }
  connect(logs: DirtyLogPosition[] = []): void {
    this.#sequence = 0;
    this.feed({ type: 'connected', logs });
  }
  lose(): void {
    this.feed({ type: 'disconnected', code: 'SESSION_LOST', message: 'gone' });
  }
  welcome(
    generation: bigint,
    durableLsn: bigint,
    volume: VolumeState,
    ended = false,
    ...others: VolumeState[]
  ): AgentAction[] {
    const hashKey = Buffer.alloc(32);
    return this.hear({
      welcome: {
        software: 'test',
        protocol: 1,
        storeVersion: 1,
        generation,
        durableLsn,
        link: 7,
        hashKey,
        volumes: [volume, ...others],
        ended,
      },
    });
  }
  /** From a Welcome that leads to a new generation to its frames. */
  begin(generation: bigint, volume: VolumeState): void {
    this.feed({ type: 'persisted' });
    const accepted = this.hear({ generationAccepted: { generation, volumes: [volume] } });
    if (this.get('persist') === undefined) return; // refused: its numbers cannot be
    this.feed({ type: 'persisted' });
    this.actions = accepted;
  }
  /** A frame of these LSNs was pulled. */
  frame(firstLsn: bigint, lastLsn: bigint, bytes = 1000): AgentAction[] {
    const { generation } = this.session;
    return this.feed({ type: 'frameReady', frame: { generation, firstLsn, lastLsn, bytes }, logs: [] });
  }
  ack(durableLsn: bigint, receivedLsn = durableLsn): AgentAction[] {
    return this.hear({ ack: { durableLsn, receivedLsn, heartbeats: 0 } });
  }
  types(): string[] {
    return this.actions.map(({ type }) => type);
  }
  /** The names of the messages among the actions. */
  said(): string[] {
    return this.actions.flatMap((action) =>
      action.type === 'send' ? Object.keys(action.message).filter((key) => key !== 'sequence') : [],
    );
  }
  get<T extends AgentAction['type']>(type: T): Extract<AgentAction, { type: T }> | undefined {
    return this.actions.find((action): action is Extract<AgentAction, { type: T }> => action.type === type);
  }
}

export function ring(capturedLsn: bigint, streaming = true): RingView {
  return {
    capturedLsn,
    capturedTimeNs: 5n,
    oldestTimeNs: 0n,
    endReason: 'RING_FULL',
    usedBytes: 0n,
    bytes: 1000n,
    era: 1,
    streaming,
  };
}
