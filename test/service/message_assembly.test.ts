import { randomBytes } from 'node:crypto';
import { StreamDecoder } from '@grpc/grpc-js/build/src/stream-decoder.js';
import t from 'tap';
import { assembleInto, MessageAssembly, MessageMemory } from '../../service/message_assembly.js';

const LIMIT = 2 << 20;

/** As gRPC has it on the wire. */
function prefixed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function inPieces(bytes: Buffer, piece: (left: number) => number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Math.max(1, Math.min(piece(bytes.length - at), bytes.length - at));
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

t.test('messages are what they were, however they are cut', (t) => {
  const messages = [0, 1, 7, 65_530, 65_531, 65_532, 70_000, 0, 1 << 20, LIMIT, 3].map((length) =>
    prefixed(randomBytes(length)),
  );
  const stream = Buffer.concat(messages);
  for (const piece of [
    () => 1 + Math.floor(Math.random() * 9),
    () => 16_384,
    () => 65_536,
    () => stream.length,
    (left: number) => left - 1,
  ]) {
    const assembly = new MessageAssembly(new MessageMemory(), LIMIT);
    const whole = inPieces(stream, piece).flatMap((data) => assembly.add(data));
    t.equal(whole.length, messages.length);
    t.ok(whole.every((message, i) => messages[i]?.equals(message)));
  }
  t.end();
});

t.test('one that is too long is refused by its prefix', (t) => {
  const assembly = new MessageAssembly(new MessageMemory(), LIMIT);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(LIMIT + 1, 1);
  t.same(assembly.add(prefix.subarray(0, 4)), []);
  t.throws(() => assembly.add(prefix.subarray(4)), { message: /larger than max \(2097153 vs 2097152\)/ });
  t.end();
});

t.test('memory is used again when it was given back, and only then', (t) => {
  const memory = new MessageMemory();
  const first = memory.take(100_000);
  const second = memory.take(100_000);
  t.not(second.buffer, first.buffer);
  t.equal(
    (first.byteOffset + 9) % 8,
    0,
    'a frame behind prefix, tag and length is where the journal takes it',
  );
  memory.giveBack(first.subarray(9));
  const third = memory.take(120_000);
  t.equal(third.buffer, first.buffer);
  memory.giveBack(third);
  memory.giveBack(third);
  memory.giveBack(first);
  t.equal(memory.take(1 << 17).buffer, first.buffer);
  t.not(memory.take(1 << 17).buffer, first.buffer, 'what is given back twice is lent once');
  const foreign = Buffer.allocUnsafeSlow(256 << 10);
  memory.giveBack(foreign);
  t.not(memory.take(200_000).buffer, foreign.buffer, 'nobody else’s memory is taken for it');
  t.end();
});

t.test('no more than a bound is kept', (t) => {
  const memory = new MessageMemory();
  const lent = Array.from({ length: 60 }, () => memory.take(1 << 20));
  const known = new Set(lent.map(({ buffer }) => buffer));
  for (const buffer of lent) memory.giveBack(buffer);
  const again = Array.from({ length: 60 }, () => memory.take(1 << 20));
  const kept = again.filter(({ buffer }) => known.has(buffer)).length;
  t.ok(kept > 0 && kept * (1.25 * 2 ** 20) <= 48 << 20, `${kept} are kept`);
  t.end();
});

t.test('grpc-js has the decoder that is replaced', (t) => {
  const memory = new MessageMemory();
  assembleInto(memory);
  const decoder = new StreamDecoder(LIMIT);
  const message = prefixed(randomBytes(100_000));
  const [whole = Buffer.alloc(0), ...more] = inPieces(message, () => 40_000).flatMap((data) =>
    decoder.write(data),
  );
  t.same(more, []);
  t.ok(whole.equals(message));
  memory.giveBack(whole);
  t.equal(memory.take(100_000).buffer, whole.buffer, 'it was put together in the memory that was named');
  t.throws(() => new StreamDecoder(10).write(prefixed(Buffer.alloc(11))), { message: /larger than max/ });
  t.end();
});
