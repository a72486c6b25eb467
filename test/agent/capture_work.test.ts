import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { CaptureWork, isCaptureAction, type Bulk } from '../../agent/capture_work.js';
import { systemClock } from '../../agent/clock.js';
import { Deliveries } from '../../agent/deliveries.js';
import { LagHistogram } from '../../agent/lag.js';
import type { AgentEvent, StoredState } from '../../agent/session_events.js';
import { RING_BYTES_MIN } from '../../agent/served_bounds.js';
import { inheritedStream } from '../../agent/takeover.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { COMPLETE, IDENTITY, Script, SYNCED } from './session_script.js';

const broken = (): Promise<never> => Promise.reject(new AfterimageError('IO_ERROR', 'Input/output error'));

/** Over one volume on which everything fails. */
function scene(working: Partial<native.CapturedVolume> = {}) {
  const events: AgentEvent[] = [];
  const stats = () => ({ ringUsedBytes: 0n, ringBytes: 1n, streaming: true });
  const work = new CaptureWork(
    {
      group: { stats } as unknown as native.CaptureGroup,
      syncRateMax: null,
      deliveries: new Deliveries({ next: broken }),
      volumes: new Map([
        [
          3,
          {
            device: {
              hashBlocks: broken,
              readPiece: broken,
              fence: broken,
              ...working,
            } as unknown as native.CapturedVolume,
            log: {} as unknown as native.DirtyLog,
            title: 'volume data (/dev/vdb)',
          },
        ],
      ]),
    },
    () => Promise.resolve(),
    (event) => void events.push(event),
    new LagHistogram(() => 0),
    systemClock,
    (error) => {
      throw error;
    },
  );
  return { work, events };
}

t.test('a sync step that fails says where', async (t) => {
  const { work, events } = scene();
  work.carryOut({ type: 'readPiece', turn: 1, volume: 3, offset: 4096n, length: 512 }, null);
  const hashes = {
    blockBytes: 512,
    hashes: Buffer.alloc(32),
    hashKey: Buffer.alloc(32),
    purpose: 'send' as const,
  };
  work.carryOut({ type: 'compare', turn: 2, volume: 3, offset: 8192n, length: 512, ...hashes }, null);
  work.carryOut({ type: 'fence', turn: 3, volume: 3 }, null);
  await new Promise(setImmediate);
  t.strictSame(
    events
      .flatMap((event) =>
        event.type === 'syncFailed' ? [[event.turn, event.code, event.message] as const] : [],
      )
      .sort(([a], [b]) => a - b),
    [
      [1, 'IO_ERROR', 'volume data (/dev/vdb) at 4096: Input/output error'],
      [2, 'IO_ERROR', 'volume data (/dev/vdb) at 8192: Input/output error'],
      [3, 'IO_ERROR', 'volume data (/dev/vdb) waiting for its writes: Input/output error'],
    ],
  );
});

t.test('pieces are told in the order in which their reading began, whatever takes longer', async (t) => {
  const reads: ((piece: native.SyncPiece) => void)[] = [];
  const readPiece = (): Promise<native.SyncPiece> => new Promise((resolve) => reads.push(resolve));
  const { work, events } = scene({ readPiece });
  for (const turn of [1, 2])
    work.carryOut({ type: 'readPiece', turn, volume: 3, offset: BigInt(turn) * 512n, length: 512 }, null);
  await new Promise(setImmediate);
  t.equal(reads.length, 2);
  reads[1]?.({ bytes: 0, compressed: false, crc32c: 0 });
  await new Promise(setImmediate);
  t.strictSame(events, []);
  reads[0]?.({ bytes: 512, compressed: false, crc32c: 7 });
  await new Promise(setImmediate);
  t.strictSame(events, [
    { type: 'pieceRead', turn: 1, wireBytes: 512, rawBytes: 512 },
    { type: 'pieceRead', turn: 2, wireBytes: 0, rawBytes: 512 },
  ]);
});

t.test('once production has ended no step begins, and none fails', async (t) => {
  const { work, events } = scene();
  work.carryOut({ type: 'fence', turn: 1, volume: 3 }, null);
  await work.quiesce();
  work.carryOut({ type: 'readPiece', turn: 2, volume: 3, offset: 0n, length: 512 }, null);
  await new Promise(setImmediate);
  t.strictSame(events, []);
});

/** What a killed agent left: of three records the first is confirmed, and the stream has ended. */
async function endedRing(
  directory: string,
): Promise<{ ring: native.CaptureGroup; close: () => Promise<void> }> {
  const file = path.join(directory, 'backing');
  writeFileSync(file, Buffer.alloc(1 << 20));
  const opening = { path: file, cache: 'buffered', readOnly: false, exclusive: true } as const;
  const backing = await native.openFileDevice(opening);
  const { group, member } = IDENTITY;
  const options = {
    group,
    member,
    ringBytes: RING_BYTES_MIN,
    lingerUs: 0,
    spool: null,
    lastTimeNs: 0n,
    era: 1,
  };
  const predecessor = native.createCaptureGroup(options);
  const volume = predecessor.addVolume(0, backing, null, null);
  predecessor.beginGeneration({ epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: 1000n });
  await volume.write(0n, Buffer.alloc(4096, 1));
  predecessor.startShipping(0n, 0);
  const frame = await predecessor.next();
  if (frame?.kind !== 'frame') throw new Error('no frame of the first record');
  frame.release();
  predecessor.release(1n);
  for (const value of [2, 3]) await volume.write(0n, Buffer.alloc(4096, value));
  predecessor.closeStream();
  const ring = native.adoptCaptureGroup(options, predecessor.ringDescriptor());
  const close = async (): Promise<void> => {
    for (const one of [ring, predecessor, volume, backing]) await one.close();
  };
  return { ring, close };
}

// Symptom: an agent was killed when its stream had ended (RING_FULL, a volume had grown) and the receiver had all of it but had
// not confirmed it. The next agent connected, and its group stayed `tracking` until somebody restarted it. Cause: that the
// receiver had everything was taken for the session's giving the stream up, and its end was forgotten unpulled. If it
// returns, no end is said here and no generation begins.
t.test(
  'a stream that has ended, and that the receiver turns out to have in full, is followed by the next one',
  async (t) => {
    const { ring: group, close } = await endedRing(t.testdir());
    t.teardown(close);
    const inherited = inheritedStream({ captureGroup: group, isContinued: true });
    t.match(inherited, { capturedLsn: 3n, releasedLsn: 1n });
    group.resumeGeneration(2n, 1000n);

    const script = new Script();
    const said: string[] = [];
    const carryOut = (bulk: Bulk): void => {
      said.push(...script.said());
      for (const action of script.actions)
        if (isCaptureAction(action) && !('volume' in action)) work.carryOut(action, bulk);
    };
    const work = new CaptureWork(
      { group, syncRateMax: null, deliveries: new Deliveries(group), volumes: new Map() },
      () => Promise.resolve(),
      (event, bulk) => {
        script.feed(event);
        carryOut(bulk);
      },
      new LagHistogram(() => 0),
      systemClock,
      (error) => void t.fail(String(error)),
    );
    const stored: StoredState = {
      epoch: 1n,
      generation: 1n,
      durableLsn: 0n,
      lsnCeiling: 1000n,
      clean: false,
      volumes: IDENTITY.volumes,
      timeNs: 9n,
      era: 1,
      acceptedGeneration: 1n,
      processes: [],
      unwelcomedLogs: [],
    };
    script.feed({ type: 'started', stored, identity: IDENTITY, logs: [], inherited });
    script.feed({ type: 'persisted' });
    script.feed({ type: 'opened' });
    script.connect();
    script.welcome(1n, 3n, SYNCED);
    carryOut(null);
    for (let waits = 0; !said.includes('streamEnd') && waits < 1000; waits += 1) await delay(10);
    t.strictSame(said, ['streamEnd']);

    script.feed({ type: 'persisted' });
    t.match(script.get('send')?.message, { generationBegin: { generation: 2n, firstLsn: 4n } });
    script.hear({ generationAccepted: { generation: 2n, volumes: [COMPLETE] } });
    carryOut(null);
    t.match(group.stats(), { generation: 2n, streaming: true, ringUsedBytes: 0n });
    await new Promise(setImmediate);
  },
);
