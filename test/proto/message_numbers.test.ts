import t from 'tap';
import { readFrameHeader } from '../../proto/frame_header.js';
import { MessageNumbers } from '../../proto/message_numbers.js';
import {
  decodeAgentMessage,
  decodeReceiverMessage,
  encodeAgentMessage,
  encodeReceiverMessage,
  HEADROOM_BYTES,
  prefixedMessage,
} from '../../proto/replication.js';
import { assertWatermarks, watermarksAt } from '../../proto/watermarks.js';

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

t.test('numbers survive the wire', (t) => {
  const sync = decodeAgentMessage(
    encodeAgentMessage({ sequence: 4_294_967_295, syncDone: { volume: 3, lsn: 2n ** 60n } }),
  );
  t.same(sync, { sequence: 4_294_967_295, syncDone: { volume: 3, lsn: 2n ** 60n } });
  const volumes = [{ number: 1, base: 'BASE_SYNCING' as const, syncOffset: 5n, synced: false, whole: false }];
  const accepted = { sequence: 1, generationAccepted: { generation: 9n, volumes } };
  t.same(decodeReceiverMessage(encodeReceiverMessage(accepted)), accepted);
  t.end();
});

t.test('a piece goes out from where it lies, as SyncData, whatever its numbers', (t) => {
  for (const [sequence, offset, bytes] of [
    [4_294_967_295, 2n ** 63n, 1 << 20],
    [1, 0n, 1],
  ] as const) {
    const buffer = Buffer.alloc(HEADROOM_BYTES + bytes, 7);
    const syncData = { volume: 65_535, offset, rawBytes: 1 << 20, compressed: true, crc32c: 4_294_967_295 };
    const piece = { ...syncData, buffer, headroom: HEADROOM_BYTES };
    const encoded = encodeAgentMessage({ sequence, piece });
    t.equal(encoded.buffer, buffer.buffer);
    const data = buffer.subarray(HEADROOM_BYTES);
    t.same(decodeAgentMessage(encoded), { sequence, syncData: { ...syncData, data } });
    const prefixed = prefixedMessage(encoded);
    t.same(prefixed?.subarray(0, 5), Buffer.from([0, ...u32(encoded.length)]));
    t.same(prefixed?.subarray(5), encoded);
  }
  t.end();
});

t.test('messages and frames are counted apart', (t) => {
  const sender = new MessageNumbers();
  const receiver = new MessageNumbers();
  t.equal(receiver.check(sender.next()), null);
  sender.frameSent();
  receiver.frameCame();
  t.equal(receiver.check(sender.next()), null);
  sender.next();
  t.type(receiver.check(sender.next()), 'string', 'one was lost');
  t.end();
});

t.test('a message that was lost and one that a frame overtook do not make up for each other', (t) => {
  // A seed of the simulator: a piece of a sync was lost, and the message behind it taken for it.
  const sender = new MessageNumbers();
  const receiver = new MessageNumbers();
  sender.next(); // lost
  const late = sender.next();
  sender.frameSent();
  receiver.frameCame();
  t.equal(receiver.check(late), 'message 1 behind 0 frames came where 0 behind 1 frames was next');
  t.end();
});

t.test('counts begin anew after 2^16, each by itself', (t) => {
  const sender = new MessageNumbers();
  const receiver = new MessageNumbers();
  for (let count = 0; count < 0x1_0000; count += 1) {
    sender.frameSent();
    receiver.frameCame();
  }
  for (let count = 0; count < 0x1_0001; count += 1) {
    const fault = receiver.check(sender.next());
    if (fault !== null) t.fail(fault);
  }
  t.equal(sender.next(), 1);
  t.end();
});

t.test('a frame that is shorter than its header is refused', (t) => {
  t.throws(() => readFrameHeader(Buffer.alloc(159)), { code: 'FRAME_TRUNCATED' });
  const frame = Buffer.alloc(200);
  frame.writeBigUInt64LE(2n ** 63n, 64);
  t.match(readFrameHeader(frame), { firstLsn: 2n ** 63n, bytes: 200 });
  t.end();
});

t.test('watermarks out of order are a defect', (t) => {
  assertWatermarks(watermarksAt(5n));
  for (const mark of ['durable', 'received', 'shipped', 'captured'] as const) {
    t.throws(() => assertWatermarks({ ...watermarksAt(5n), [mark]: 4n }), { code: 'ERR_ASSERTION' });
  }
  t.end();
});
