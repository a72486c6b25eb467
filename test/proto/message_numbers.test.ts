import t from 'tap';
import { readFrameHeader } from '../../proto/frame_header.js';
import { MessageNumbers } from '../../proto/message_numbers.js';
import {
  decodeAgentMessage,
  decodeReceiverMessage,
  encodeAgentMessage,
  encodeReceiverMessage,
} from '../../proto/replication.js';
import { assertWatermarks, watermarksAt } from '../../proto/watermarks.js';

t.test('numbers survive the wire', (t) => {
  const sync = decodeAgentMessage(
    encodeAgentMessage({ sequence: 4_294_967_295, syncDone: { volume: 3, lsn: 2n ** 60n } }),
  );
  t.same(sync, { sequence: 4_294_967_295, syncDone: { volume: 3, lsn: 2n ** 60n } });
  const volumes = [{ number: 1, base: 'BASE_SYNCING' as const, syncOffset: 5n, synced: false }];
  const accepted = { sequence: 1, generationAccepted: { generation: 9n, volumes } };
  t.same(decodeReceiverMessage(encodeReceiverMessage(accepted)), accepted);
  t.end();
});

t.test('a frame uses a number up without carrying it', (t) => {
  const sender = new MessageNumbers();
  const receiver = new MessageNumbers();
  t.equal(receiver.check(sender.next()), null);
  sender.next();
  receiver.frame();
  t.equal(receiver.check(sender.next()), null);
  sender.next();
  t.type(receiver.check(sender.next()), 'string', 'one was lost');
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
