/** The receiver's session against agents that are wrong, old, cloned or hostile. Honest histories: test/sim. */
import t from 'tap';
import type { FrameHeader } from '../../proto/frame_header.js';
import type { AgentBody, Hello } from '../../proto/replication.js';
import { ReceiverSession } from '../../receiver/session.js';
import { SESSION_LIMITS } from '../../receiver/session_limits.js';
import type {
  ReceiverAction,
  ReceiverEvent,
  StoredPosition,
  StoredVolume,
  StoredWriter,
} from '../../receiver/session_events.js';

const MIB = 1024 * 1024;
const HELLO: Hello = {
  protocol: 1,
  protocolOldest: 0,
  software: 'test',
  group: Buffer.alloc(16, 1),
  groupName: 'shop',
  member: Buffer.alloc(16, 2),
  host: 'db1',
  instance: Buffer.alloc(16, 3),
  epoch: 5n,
  generation: 1n,
  durableLsn: 100n,
  capturedLsn: 100n,
  usedLsnMax: 1000n,
  continuous: true,
  volumes: [{ number: 0, uuid: Buffer.alloc(16, 4), name: 'data', size: BigInt(4 * MIB), blockSize: 512 }],
  acceptedGeneration: 0n,
  ancestors: [],
  logs: [],
};
const WRITER: StoredWriter = { epoch: 5n, instance: HELLO.instance };

function volume(change: Partial<StoredVolume>): StoredVolume {
  const [info] = HELLO.volumes;
  if (info === undefined) throw new Error('there is a volume');
  return { info, base: 'BASE_COMPLETE', syncOffset: 0n, syncedLsn: 50n, whole: false, ...change };
}
function position(change: Partial<StoredPosition>): StoredPosition {
  return {
    generation: 1n,
    firstLsn: 1n,
    durableLsn: 100n,
    link: 7,
    ended: false,
    volumes: [volume({})],
    leftSyncedLsns: [],
    ...change,
  };
}
function frame(change: Partial<FrameHeader>): FrameHeader {
  const next = { firstLsn: 101n, lastLsn: 110n, link: 7, headerCrc: 8, bytes: 1000 };
  return { epoch: 5n, generation: 1n, ...next, ...change };
}

class Script {
  readonly session = new ReceiverSession('test');
  actions: ReceiverAction[] = [];
  #sequence = 0;

  feed(event: ReceiverEvent): ReceiverAction[] {
    this.actions = this.session.handle(event);
    return this.actions;
  }
  hear(body: AgentBody): ReceiverAction[] {
    this.#sequence += 1;
    return this.feed({ type: 'message', message: { ...body, sequence: this.#sequence - 1 } });
  }
  frame(change: Partial<FrameHeader>): ReceiverAction[] {
    this.#sequence += 0x1_0000;
    return this.feed({ type: 'frame', header: frame(change) });
  }
  /** Welcomed, with this in the store. */
  static welcomed(stored: Partial<StoredPosition> = {}): Script {
    const script = new Script();
    script.hear({ hello: HELLO });
    script.feed({ type: 'found', writer: WRITER, otherIsLive: false });
    script.feed({ type: 'epochStored', position: position(stored), hashKey: Buffer.alloc(32) });
    return script;
  }
  get<T extends ReceiverAction['type']>(type: T): Extract<ReceiverAction, { type: T }> | undefined {
    return this.actions.find(
      (action): action is Extract<ReceiverAction, { type: T }> => action.type === type,
    );
  }
  get said(): string[] {
    return this.actions.flatMap((action) =>
      action.type === 'send' ? Object.keys(action.message).filter((key) => key !== 'sequence') : [],
    );
  }
  get refusal(): string {
    const message = this.get('send')?.message;
    return message !== undefined && 'refused' in message ? message.refused.code : '';
  }
}

t.test('a newer writer takes over: the old session ends, the epoch is stored, then it is welcomed', (t) => {
  const script = new Script();
  script.hear({ hello: { ...HELLO, epoch: 6n } });
  t.ok(script.get('find'));
  script.feed({ type: 'found', writer: WRITER, otherIsLive: true });
  t.same(script.actions, [{ type: 'closeOther', code: 'FENCED' }]);
  script.feed({ type: 'otherClosed' });
  t.ok(script.get('storeEpoch'));
  t.same(script.said, [], 'nobody hears of an epoch that is not stored');
  script.feed({ type: 'epochStored', position: position({}), hashKey: Buffer.alloc(32) });
  t.same(script.said, ['welcome']);
  t.end();
});

t.test('the same process on a new connection displaces its dead one silently', (t) => {
  const script = new Script();
  script.hear({ hello: HELLO });
  script.feed({ type: 'found', writer: WRITER, otherIsLive: true });
  t.same(script.actions, [{ type: 'closeOther', code: null }]);
  const old = Script.welcomed();
  old.feed({ type: 'displaced', code: null });
  t.same(old.said, []);
  t.ok(old.get('close'));
  t.end();
});

t.test('an older writer and a clone are fenced', (t) => {
  for (const hello of [
    { ...HELLO, epoch: 4n },
    { ...HELLO, instance: Buffer.alloc(16, 9) },
  ]) {
    const script = new Script();
    script.hear({ hello });
    script.feed({ type: 'found', writer: WRITER, otherIsLive: true });
    t.equal(script.refusal, 'FENCED');
    t.ok(script.session.isClosed);
  }
  const live = Script.welcomed();
  live.feed({ type: 'displaced', code: 'FENCED' });
  t.equal(live.refusal, 'FENCED');
  t.end();
});

t.test('a Hello that cannot be is refused before anything is looked up', (t) => {
  const [info] = HELLO.volumes;
  if (info === undefined) throw new Error('there is a volume');
  for (const [wrong, code] of [
    [{ protocol: 2 }, 'PROTOCOL_VERSION'],
    [{ member: Buffer.alloc(15) }, 'MESSAGE_INVALID'],
    [{ epoch: 0n }, 'MESSAGE_INVALID'],
    [{ groupName: '' }, 'MESSAGE_INVALID'],
    [{ volumes: [] }, 'MESSAGE_INVALID'],
    [{ volumes: [info, info] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, number: 64 }] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, size: 1000n }] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, blockSize: 0 }] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, blockSize: 768 }] }, 'MESSAGE_INVALID'],
    // The journal knows no such blocks: the catalog took them, and no receiver started on that store again.
    [{ volumes: [{ ...info, blockSize: 1024 }] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, blockSize: 2048 }] }, 'MESSAGE_INVALID'],
    [{ volumes: [{ ...info, size: 2n ** 49n + 512n }] }, 'MESSAGE_INVALID'],
  ] as const) {
    const script = new Script();
    script.hear({ hello: { ...HELLO, ...wrong } as Hello });
    t.equal(script.refusal, code, JSON.stringify(Object.keys(wrong)));
  }
  t.end();
});

t.test('nothing but Hello comes first, and it comes once', (t) => {
  const early = new Script();
  early.hear({ goodbye: { reason: '' } });
  t.equal(early.refusal, 'SESSION_ORDER');
  const frames = new Script();
  frames.frame({});
  t.equal(frames.refusal, 'SESSION_ORDER');
  const twice = Script.welcomed();
  twice.hear({ hello: HELLO });
  t.equal(twice.refusal, 'SESSION_ORDER');
  t.same(twice.hear({ hello: HELLO }), [], 'a closed session hears nothing');
  t.end();
});

t.test('frames that do not continue the stream exactly are refused', (t) => {
  for (const [wrong, code] of [
    [{ epoch: 4n }, 'FRAME_FENCED'],
    [{ generation: 2n }, 'FRAME_GENERATION'],
    [{ firstLsn: 100n }, 'FRAME_REPEATED'],
    [{ firstLsn: 102n }, 'FRAME_GAP'],
    [{ lastLsn: 100n }, 'FRAME_CORRUPT'],
    [{ link: 6 }, 'FRAME_LINK'],
    [{ bytes: 65 * MIB }, 'JOURNAL_OVERLOAD'],
  ] as const) {
    const script = Script.welcomed();
    script.frame(wrong);
    t.equal(script.refusal, code);
    t.notOk(script.get('append'));
  }
  t.end();
});

t.test('numbers that the catalog cannot hold are refused before anything is done with them', (t) => {
  const number = 2n ** 63n;
  const beat = { shippedLsn: 100n, capturedLsn: 100n, capturedTimeNs: 1n, oldestTimeNs: 1n, nowNs: 1n };
  for (const wrong of [{ nowNs: number }, { capturedTimeNs: number }, { capturedLsn: number }]) {
    const script = Script.welcomed();
    const ring = { ringUsedBytes: 0n, ringBytes: 1n, state: 'protected', logs: [] };
    script.hear({ heartbeat: { ...beat, ...ring, ...wrong } });
    t.equal(script.refusal, 'MESSAGE_INVALID', Object.keys(wrong).join());
    t.notOk(script.get('noteHeartbeat'));
  }
  const script = Script.welcomed();
  script.hear({ checkpoint: { requestId: '1', name: 'late', lsn: 100n, timeNs: number } });
  t.same(script.said, ['checkpointDone']);
  t.notOk(script.get('keepCheckpoint'));
  t.end();
});

t.test('an LSN is acknowledged when it is durable', (t) => {
  const script = Script.welcomed();
  script.frame({});
  t.same(script.said, []);
  script.hear({
    heartbeat: {
      capturedLsn: 120n,
      capturedTimeNs: 0n,
      shippedLsn: 110n,
      oldestTimeNs: 0n,
      nowNs: 0n,
      ringUsedBytes: 0n,
      ringBytes: 0n,
      state: 'protected',
      logs: [],
    },
  });
  t.match(script.get('send')?.message, {
    ack: { durableLsn: 100n, receivedLsn: 110n, heartbeats: 1 },
  });
  // What it says of dirty logs is stored before that is said.
  t.same(
    script.actions.map(({ type }) => type),
    ['noteHeartbeat', 'send'],
  );
  script.feed({ type: 'appended', durableLsn: 110n });
  t.match(script.get('send')?.message, { ack: { durableLsn: 110n } });
  t.end();
});

t.test('a message that was lost, repeated or moved is noticed at the next one', (t) => {
  for (const sequence of [0, 2, 3]) {
    const script = Script.welcomed();
    script.feed({ type: 'message', message: { goodbye: { reason: '' }, sequence } });
    t.equal(script.refusal, 'SESSION_ORDER');
  }
  t.end();
});

t.test('a frame that the disk does not take ends the session with its code', (t) => {
  const script = Script.welcomed();
  script.frame({});
  script.feed({ type: 'appendFailed', code: 'JOURNAL_FULL', message: 'no space' });
  t.equal(script.refusal, 'JOURNAL_FULL');
  t.match(script.get('send')?.message, { refused: { retryable: true } });
  t.end();
});

t.test('a generation begins when all before it is durable', (t) => {
  const script = Script.welcomed({
    volumes: [volume({ base: 'BASE_SYNCING', syncOffset: 5n, syncedLsn: 0n })],
  });
  script.frame({});
  script.hear({ streamEnd: { generation: 1n, lastLsn: 110n, reason: 'RING_FULL', timeNs: 3n } });
  const { volumes } = HELLO;
  script.hear({ generationBegin: { generation: 2n, firstLsn: 111n, reason: 'RING_FULL', volumes } });
  t.same(script.actions, []);
  script.feed({ type: 'appended', durableLsn: 110n });
  t.ok(script.get('endGeneration'));
  t.notOk(script.get('beginGeneration'));
  script.feed({ type: 'generationEnded' });
  t.match(script.get('beginGeneration'), { begin: { generation: 2n } });
  script.feed({ type: 'generationBegun', volumes: [volume({ base: 'BASE_EMPTY', syncedLsn: 0n })] });
  t.match(script.get('send')?.message, { generationAccepted: { generation: 2n } });
  t.end();
});

t.test('an agent that streams a generation which damage has ended is told so, also when it is idle', (t) => {
  // It believed itself protected until its next frames were refused.
  const script = Script.welcomed({ ended: true });
  const heartbeat = { capturedTimeNs: 1n, oldestTimeNs: 0n, nowNs: 2n, ringUsedBytes: 0n, ringBytes: 1n };
  script.hear({
    heartbeat: { ...heartbeat, capturedLsn: 100n, shippedLsn: 100n, state: 'protected', logs: [] },
  });
  t.equal(script.refusal, 'GENERATION_UNKNOWN');
  t.end();
});

t.test('a generation that goes back, overlaps, or has other volumes is refused', (t) => {
  const { volumes } = HELLO;
  const begin = { generation: 2n, firstLsn: 101n, reason: 'RING_FULL', volumes };
  for (const [wrong, code] of [
    [{ generation: 1n }, 'SESSION_ORDER'],
    [{ firstLsn: 100n }, 'SESSION_ORDER'],
    [{ volumes: [] }, 'VOLUME_MISMATCH'],
  ] as const) {
    const script = Script.welcomed();
    script.hear({ generationBegin: { ...begin, ...wrong, volumes: [...(wrong.volumes ?? volumes)] } });
    t.equal(script.refusal, code);
  }
  const early = Script.welcomed();
  early.hear({ streamEnd: { generation: 1n, lastLsn: 105n, reason: '', timeNs: 0n } });
  t.equal(early.refusal, 'SESSION_ORDER', 'the end of what was not received');
  t.end();
});

t.test('a reason that nobody would give is refused before it is in the catalog', (t) => {
  const reason = 'x'.repeat(256);
  const { volumes } = HELLO;
  const begun = Script.welcomed({});
  begun.hear({ generationBegin: { generation: 2n, firstLsn: 111n, reason, volumes } });
  t.equal(begun.refusal, 'MESSAGE_INVALID');
  const ended = Script.welcomed({});
  ended.hear({ streamEnd: { generation: 1n, lastLsn: 100n, reason, timeNs: 3n } });
  t.equal(ended.refusal, 'MESSAGE_INVALID');
  t.end();
});

t.test('a base that recovery points rest on is never written directly', (t) => {
  for (const stored of [volume({}), volume({ syncedLsn: 0n })]) {
    const script = Script.welcomed({ volumes: [stored] });
    script.hear({ syncBegin: { volume: 0, kind: 'SYNC_INITIAL', offset: 0n, partial: false } });
    t.equal(script.refusal, 'SESSION_ORDER');
    t.notOk(script.get('beginBase'));
  }
  const resync = Script.welcomed({ volumes: [volume({ syncedLsn: 0n })] });
  resync.hear({ syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: false } });
  const piece = { volume: 0, offset: 0n, rawBytes: 512, compressed: false, crc32c: 0, data: Buffer.alloc(0) };
  resync.hear({ syncData: piece });
  t.equal(resync.refusal, 'SESSION_ORDER');
  t.notOk(resync.get('writeBase'));
  t.end();
});

t.test('sync data outside the volume, going back, or without a sync is refused', (t) => {
  const piece = { volume: 0, offset: 0n, rawBytes: 512, compressed: false, crc32c: 0, data: Buffer.alloc(0) };
  const unsynced = { volumes: [volume({ base: 'BASE_EMPTY', syncedLsn: 0n })] };
  const none = Script.welcomed(unsynced);
  none.hear({ syncData: piece });
  t.equal(none.refusal, 'SESSION_ORDER');
  for (const wrong of [
    { volume: 1 },
    { rawBytes: 0 },
    { rawBytes: MIB + 1 },
    { offset: BigInt(4 * MIB) },
    { offset: 511n },
  ]) {
    const script = Script.welcomed(unsynced);
    script.hear({ syncBegin: { volume: 0, kind: 'SYNC_INITIAL', offset: 0n, partial: false } });
    script.hear({ syncData: piece });
    t.ok(script.get('writeBase'));
    script.hear({ syncData: { ...piece, offset: 512n, ...wrong } });
    t.equal(script.refusal, 'SESSION_ORDER', JSON.stringify(Object.keys(wrong)));
  }
  t.end();
});

t.test('an initial sync ends when base and fence are both on stable storage', (t) => {
  const script = Script.welcomed({ volumes: [volume({ base: 'BASE_EMPTY', syncedLsn: 0n })] });
  script.hear({ syncBegin: { volume: 0, kind: 'SYNC_INITIAL', offset: 0n, partial: false } });
  script.feed({ type: 'baseBegun', volume: 0 });
  script.frame({});
  script.hear({ syncDone: { volume: 0, lsn: 110n } });
  t.match(script.get('syncBase'), { offset: BigInt(4 * MIB) });
  script.feed({ type: 'baseSynced', volume: 0, offset: BigInt(4 * MIB) });
  t.notOk(script.get('markSynced'), 'the fence is not durable');
  script.feed({ type: 'appended', durableLsn: 110n });
  t.match(script.get('markSynced'), { lsn: 110n });
  t.same(script.said, ['ack']);
  script.feed({ type: 'syncedMarked', volume: 0 });
  t.match(script.get('send')?.message, { syncComplete: { volume: 0, lsn: 110n } });
  t.end();
});

t.test('a hash request outside a resync or beyond its limits is refused', (t) => {
  const request = { id: 1, volume: 0, offset: 0n, length: MIB, blockBytes: 65_536 };
  const idle = Script.welcomed();
  idle.hear({ hashRequest: request });
  t.equal(idle.refusal, 'SESSION_ORDER');
  for (const wrong of [
    { length: 0 },
    { length: 5 * MIB },
    { offset: BigInt(4 * MIB) },
    { blockBytes: 512 },
    { blockBytes: 5000 },
  ]) {
    const script = Script.welcomed({ volumes: [volume({ syncedLsn: 0n })] });
    script.hear({ syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: false } });
    script.hear({ hashRequest: request });
    t.match(script.get('hash'), { beforeLsn: 1n });
    script.hear({ hashRequest: { ...request, ...wrong } });
    t.equal(
      script.refusal,
      'SESSION_ORDER',
      JSON.stringify(wrong, (_, v: unknown) => String(v)),
    );
  }
  t.end();
});

t.test('a partial resync is taken only of a volume that is not in doubt as a whole', (t) => {
  const begin = { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: true } as const;
  const refused = Script.welcomed({ volumes: [volume({ syncedLsn: 0n, whole: true })] });
  refused.hear({ syncBegin: begin });
  t.equal(refused.refusal, 'SESSION_ORDER');

  const partial = Script.welcomed({ volumes: [volume({ syncedLsn: 0n })] });
  partial.hear({ syncBegin: begin });
  partial.hear({ syncDone: { volume: 0, lsn: 100n } });
  t.match(partial.get('markSynced'), { lsn: 100n, isWhole: false });

  const doubted = Script.welcomed({ volumes: [volume({ syncedLsn: 0n })] });
  doubted.hear({ syncBegin: begin });
  doubted.hear({ volumeDoubt: { volume: 0 } });
  t.match(doubted.get('storeDoubt'), { volume: 0 });
  doubted.hear({ syncDone: { volume: 0, lsn: 100n } });
  t.match(doubted.get('markSynced'), { lsn: 100n, isWhole: true }, 'it became one of the whole');

  const unknown = Script.welcomed();
  unknown.hear({ volumeDoubt: { volume: 9 } });
  t.equal(unknown.refusal, 'SESSION_ORDER');
  t.end();
});

t.test('a checkpoint is kept where it is durable and ordered, and refused elsewhere', (t) => {
  const script = Script.welcomed();
  const checkpoint = { requestId: 'a', name: 'before-upgrade', lsn: 110n, timeNs: 0n };
  script.hear({ checkpoint });
  script.frame({});
  t.notOk(script.get('keepCheckpoint'));
  script.feed({ type: 'appended', durableLsn: 110n });
  t.ok(script.get('keepCheckpoint'));
  script.feed({ type: 'checkpointKept', requestId: 'a' });
  t.match(script.get('send')?.message, { checkpointDone: { requestId: 'a', code: '' } });
  for (const [wrong, code] of [
    [{ lsn: 0n }, 'POINT_GRADE'],
    [{ lsn: 49n }, 'POINT_GRADE'],
    [{ name: 'no spaces' }, 'CHECKPOINT_INVALID'],
    [{ name: '' }, 'CHECKPOINT_INVALID'],
  ] as const) {
    script.hear({ checkpoint: { ...checkpoint, ...wrong } });
    t.match(script.get('send')?.message, { checkpointDone: { code } });
  }
  t.notOk(script.session.isClosed, 'a bad name is no reason to end a session');
  t.end();
});

// The simulator found it: a volume left in the middle of its sync, and what its generation had left to send came with a Hello
// that did not name it any more.
t.test('a checkpoint where a volume that has left since was not synced is refused', (t) => {
  const checkpoint = { requestId: 'a', name: 'before', lsn: 110n, timeNs: 0n };
  for (const [leftSyncedLsns, isKept] of [
    [[0n], false],
    [[105n], true],
  ] as const) {
    const script = Script.welcomed({ leftSyncedLsns: [...leftSyncedLsns] });
    script.hear({ checkpoint });
    script.frame({});
    script.feed({ type: 'appended', durableLsn: 110n });
    t.equal(script.get('keepCheckpoint') !== undefined, isKept);
    t.equal(script.session.marks.applied === 110n, isKept);
  }
  t.end();
});

t.test(
  'checkpoints beyond what one session may have under way are refused, and those before are kept',
  (t) => {
    const { checkpointsMax } = SESSION_LIMITS;
    const script = Script.welcomed();
    const name = (index: number): string => `name-${index}`;
    for (let index = 0; index < checkpointsMax; index += 1) {
      script.hear({ checkpoint: { requestId: name(index), name: name(index), lsn: 110n, timeNs: 0n } });
      t.same(script.said, []);
    }
    script.hear({ checkpoint: { requestId: 'beyond', name: 'beyond', lsn: 110n, timeNs: 0n } });
    t.match(script.get('send')?.message, {
      checkpointDone: { requestId: 'beyond', code: 'CHECKPOINT_BUSY' },
    });
    script.frame({});
    script.feed({ type: 'appended', durableLsn: 110n });
    t.equal(script.actions.filter(({ type }) => type === 'keepCheckpoint').length, checkpointsMax);

    for (let index = 0; index < checkpointsMax; index += 1) {
      script.feed({ type: 'checkpointAsked', requestId: `op-${index}`, name: name(index) });
      t.same(script.said, ['checkpointRequest']);
    }
    script.feed({ type: 'checkpointAsked', requestId: 'beyond', name: 'beyond' });
    t.match(script.get('checkpointResult'), { requestId: 'beyond', code: 'CHECKPOINT_BUSY' });
    t.end();
  },
);

t.test('an operator asks for a checkpoint and hears of its end, whatever happens', (t) => {
  const script = Script.welcomed();
  script.feed({ type: 'checkpointAsked', requestId: 'op', name: 'now' });
  t.same(script.said, ['checkpointRequest']);
  script.feed({ type: 'closed' });
  t.match(script.get('checkpointResult'), { requestId: 'op', code: 'SESSION_LOST' });
  const ended = Script.welcomed({ ended: true });
  ended.feed({ type: 'checkpointAsked', requestId: 'op', name: 'now' });
  t.match(ended.get('checkpointResult'), { code: 'AGENT_AWAY' });
  t.end();
});
