import { setImmediate as immediate } from 'node:timers/promises';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { LagHistogram } from '../../agent/lag.js';
import { Shipper, type FrameSource } from '../../agent/shipper.js';
import type { CapturedEnd, CapturedFrame } from '../../native/index.js';
import type { AgentMessage } from '../../proto/replication.js';

const HEADROOM = 64;

/** A capture group that delivers what the test gives it. */
class HandFedSource implements FrameSource {
  readonly calls: string[] = [];
  capturedLsn = 0n;
  private readonly ready: (CapturedFrame | CapturedEnd)[] = [];
  private waiting: ((delivery: CapturedFrame | CapturedEnd | null) => void) | null = null;

  give(delivery: CapturedFrame | CapturedEnd): void {
    if (this.waiting === null) this.ready.push(delivery);
    else this.waiting(delivery);
    this.waiting = null;
  }
  next(): Promise<CapturedFrame | CapturedEnd | null> {
    if (this.waiting !== null) throw new Error('next() is already waiting');
    const delivery = this.ready.shift();
    if (delivery !== undefined) return Promise.resolve(delivery);
    return new Promise((resolve) => (this.waiting = resolve));
  }
  startShipping(durableLsn: bigint, link: number): void {
    this.ready.length = 0;
    this.calls.push(`start ${durableLsn} ${link}`);
  }
  stopShipping(): void {
    this.ready.length = 0;
    this.calls.push('stop');
  }
  abandonStream(): void {
    this.calls.push('abandon');
  }
  release(lsn: bigint): void {
    this.calls.push(`release ${lsn}`);
  }
  stats() {
    return { generation: 3n, capturedLsn: this.capturedLsn } as ReturnType<FrameSource['stats']>;
  }
}

function stage(failed = (error: unknown): void => void t.fail(String(error))) {
  const source = new HandFedSource();
  const released: bigint[] = [];
  const pulled: string[] = [];
  const sends: { resolve: () => void; reject: (error: Error) => void; message: AgentMessage }[] = [];
  const sent: number[] = [];
  const lag = new LagHistogram(() => 0);
  const clock = { ...systemClock, nowNs: () => 5_000_000n };
  const send = (message: AgentMessage): Promise<void> =>
    new Promise((resolve, reject) => sends.push({ resolve, reject, message }));
  const frames: CapturedFrame[] = [];
  const shipper = new Shipper(source, send, clock, lag, {
    pulled: (delivery) => {
      if (delivery.kind === 'loss') pulled.push(`loss ${delivery.code}`);
      else pulled.push(delivery.kind === 'frame' ? `${delivery.firstLsn}` : `end ${delivery.lastLsn}`);
      if (delivery.kind === 'frame') frames.push(delivery);
    },
    sent: (bytes) => sent.push(bytes),
    failed,
  });
  const frame = (firstLsn: bigint, lastLsn: bigint): CapturedFrame => ({
    kind: 'frame',
    buffer: Buffer.alloc(HEADROOM + 1000),
    headroom: HEADROOM,
    generation: 3n,
    firstLsn,
    lastLsn,
    firstTimeNs: 1_000_000n,
    lastTimeNs: 2_000_000n,
    records: 1,
    rawBytes: 512,
    release: () => released.push(firstLsn),
  });
  return { source, shipper, released, pulled, sends, sent, lag, frame, frames };
}

t.test('a buffer goes back when the transport has its bytes, not before', async (t) => {
  const { source, shipper, released, sends, sent, frame, frames } = stage();
  shipper.startShipping(0n, 0);
  shipper.pull();
  await immediate();
  source.give(frame(1n, 4n));
  await immediate();
  shipper.ship(frames[0]!);
  await immediate();
  t.strictSame(released, []);
  sends[0]?.resolve();
  await immediate();
  t.strictSame([released, sent], [[1n], [1000]]);
  t.equal(shipper.shippedLsn, 4n);
  t.equal(shipper.shippedBytes, 1000n);
});

t.test('a buffer whose connection was lost goes back too, and counts as unsent', async (t) => {
  const { source, shipper, released, sends, sent, frame, frames } = stage();
  shipper.startShipping(0n, 0);
  shipper.pull();
  await immediate();
  source.give(frame(1n, 4n));
  await immediate();
  shipper.ship(frames[0]!);
  sends[0]?.reject(new Error('lost'));
  await immediate();
  t.strictSame([released, sent], [[1n], []]);
});

t.test('a frame of the framing before never follows a restart', async (t) => {
  const { source, shipper, released, pulled, frame } = stage();
  shipper.startShipping(0n, 0);
  await immediate();
  shipper.pull();
  source.give(frame(1n, 9n)); // on its way, a microtask from here
  shipper.startShipping(4n, 77);
  await immediate();
  t.strictSame([pulled, released], [[], [1n]]);
  source.give(frame(5n, 9n));
  await immediate();
  t.strictSame(pulled, ['5'], 'the same pull is answered by the new framing');
  t.strictSame(source.calls, ['stop', 'start 0 0', 'release 0', 'stop', 'start 4 77', 'release 0']);
});

t.test('a restart that is called off does not happen', async (t) => {
  const { source, shipper } = stage();
  shipper.startShipping(4n, 77);
  shipper.stopShipping();
  await immediate();
  t.strictSame(source.calls, ['stop', 'stop']);
});

t.test('giving a stream up answers the pull that waits with its end', async (t) => {
  const { source, shipper, pulled, frame } = stage();
  shipper.startShipping(0n, 0);
  shipper.pull();
  await immediate();
  source.capturedLsn = 20n;
  shipper.abandon('WATERMARK_INVALID');
  t.strictSame(pulled, ['end 20']);
  shipper.startShipping(20n, 0);
  shipper.pull();
  await immediate();
  source.give(frame(21n, 21n));
  await immediate();
  t.strictSame(pulled, ['end 20', '21'], 'and the next pull by the next stream');
});

t.test('giving a stream up that nobody pulls answers the next pull', (t) => {
  const { source, shipper, pulled } = stage();
  source.capturedLsn = 20n;
  shipper.abandon('FENCED');
  t.strictSame(pulled, []);
  shipper.pull();
  t.strictSame(pulled, ['end 20']);
  t.end();
});

t.test(
  'what the receiver has beyond its last acknowledgement is released once framing begins there',
  async (t) => {
    const { source, shipper } = stage();
    source.capturedLsn = 30n;
    shipper.release(30n);
    t.strictSame(source.calls, [], 'the group would refuse it now');
    shipper.startShipping(30n, 1);
    await immediate();
    t.strictSame(source.calls, ['stop', 'start 30 1', 'release 30']);
  },
);

t.test('a stream that is forgotten before it was taken again is forgotten as a whole', (t) => {
  const { source, shipper, pulled } = stage();
  source.capturedLsn = 50n;
  shipper.forget();
  t.strictSame(source.calls, ['stop', 'abandon']);
  shipper.pull();
  t.strictSame(pulled, [], 'its end was pulled');
  t.end();
});

t.test('the lag of a frame is the age of its first record when it is acknowledged', async (t) => {
  const { source, shipper, lag, frame, frames } = stage();
  shipper.startShipping(0n, 0);
  await immediate();
  for (const [first, last] of [
    [1n, 4n],
    [5n, 6n],
  ] as const) {
    shipper.pull();
    source.give(frame(first, last));
    await immediate();
  }
  for (const one of frames) shipper.ship(one);
  shipper.acknowledge(5n);
  const samples = lag.lastMinute(1);
  t.ok(samples >= 4_000_000n && samples < 4_500_000n, `${samples}`);
  shipper.acknowledge(6n);
  t.ok(lag.lastMinute(0.5) >= 4_000_000n);
});

t.test("an exception of whoever takes a frame is the session's, not the process'", async (t) => {
  const failures: unknown[] = [];
  const { source, shipper, frame, frames } = stage((error) => void failures.push(error));
  frames.push = () => {
    throw new Error('a defect');
  };
  shipper.startShipping(0n, 0);
  shipper.pull();
  await immediate();
  source.give(frame(1n, 4n));
  await immediate();
  t.match(failures, [{ message: 'a defect' }]);
});
