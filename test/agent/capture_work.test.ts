import t from 'tap';
import { CaptureWork } from '../../agent/capture_work.js';
import { systemClock } from '../../agent/clock.js';
import { Deliveries } from '../../agent/deliveries.js';
import { LagHistogram } from '../../agent/lag.js';
import type { AgentEvent } from '../../agent/session_events.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';

const broken = (): Promise<never> => Promise.reject(new AfterimageError('IO_ERROR', 'Input/output error'));

/** Over one volume on which everything fails. */
function scene() {
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
            device: { read: broken, fence: broken } as unknown as native.CapturedVolume,
            log: {} as unknown as native.DirtyLog,
            title: 'volume data (/dev/vdb)',
          },
        ],
      ]),
    },
    () => Promise.resolve(),
    (event) => void events.push(event),
    native,
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

t.test('once production has ended no step begins, and none fails', async (t) => {
  const { work, events } = scene();
  work.carryOut({ type: 'fence', turn: 1, volume: 3 }, null);
  await work.quiesce();
  work.carryOut({ type: 'readPiece', turn: 2, volume: 3, offset: 0n, length: 512 }, null);
  await new Promise(setImmediate);
  t.strictSame(events, []);
});
