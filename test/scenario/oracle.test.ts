/** The judge is judged: images made by hand, each of which it has to accept, or to refuse for what is wrong with it. */
import t from 'tap';
import { Oracle, type Operation } from './oracle.js';

const SECTOR = 512;
const MAGIC = 0x504d4154534f4741n;

/** A write of one sector, from `submit` to `ack`. */
const write = (op: number, sector: number, submit: number, ack: number): Operation => {
  const times = { submitNs: BigInt(submit), ackNs: BigInt(ack) };
  return { op, volume: 0, kind: 'write', offset: sector * SECTOR, length: SECTOR, ...times };
};
/** Of four sectors, each with the stamp of an operation, or null: zeroes. */
function image(carried: readonly (number | null)[]): Buffer {
  const bytes = Buffer.alloc(carried.length * SECTOR);
  carried.forEach((op, sector) => {
    if (op === null) return;
    const at = sector * SECTOR;
    bytes.writeBigUInt64LE(MAGIC, at);
    bytes.writeBigUInt64LE(BigInt(sector), at + 16);
    bytes.writeBigUInt64LE(BigInt(op), at + 24);
    bytes.writeBigUInt64LE(BigInt(op), at + SECTOR - 8);
  });
  return bytes;
}
const judge = (operations: Operation[], bytes: Buffer, timeNs: bigint | null = null): string[] =>
  new Oracle(operations, [bytes.length]).judge([bytes], timeNs).violations;

t.test('what was acknowledged before something visible was submitted is there', (t) => {
  const operations = [write(1, 0, 10, 20), write(2, 1, 30, 40)];
  t.same(judge(operations, image([1, 2, null, null])), []);
  t.same(judge(operations, image([1, null, null, null])), []);
  t.match(judge(operations, image([null, 2, null, null])), [/carries zeroes, but write 1/]);
  t.match(judge(operations, image([1, null, null, null]), 50n), [/carries zeroes, but write 2/]);
  t.match(judge(operations, image([1, 2, null, null]), 25n), [/operation 2 was submitted 5 ns after/]);
  t.end();
});

t.test('of two that were in flight together either may have won', (t) => {
  const operations = [write(1, 0, 10, 30), write(2, 0, 20, 40), write(3, 1, 50, 60)];
  t.same(judge(operations, image([1, 3, null, null])), []);
  t.same(judge(operations, image([2, 3, null, null])), []);
  t.end();
});

t.test('one that failed may be there or not, and what it had replaced was older', (t) => {
  const failed = { ...write(2, 0, 30, 40), isFailed: true };
  const operations = [write(1, 0, 10, 20), failed, write(3, 0, 50, 60), write(4, 1, 70, 80)];
  t.same(judge(operations.slice(0, 2), image([1, null, null, null]), 100n), []);
  t.same(judge(operations.slice(0, 2), image([2, null, null, null]), 100n), []);
  t.match(judge(operations, image([2, 4, null, null])), [/carries 2, but write 3/]);
  t.end();
});

t.test(
  'a trim leaves nothing that says so: the least instant that explains the zeroes is looked for',
  (t) => {
    const trim: Operation = { ...write(2, 0, 30, 40), kind: 'trim' };
    const operations = [write(1, 0, 10, 20), trim, write(3, 1, 25, 35)];
    t.same(judge(operations, image([null, 3, null, null])), [], 'the trim is visible too');
    t.match(judge(operations, image([null, 3, null, null]), 26n), [/carries zeroes, but write 1/]);
    t.end();
  },
);

t.test('what is of no writer, of another place, or of two', (t) => {
  const operations = [write(1, 0, 10, 20)];
  const strange = image([1, null, null, null]);
  strange[3 * SECTOR + 7] = 1;
  t.match(judge(operations, strange), [/sector 3: neither a stamp nor zeroes/]);
  t.match(judge(operations, image([1, 1, null, null]).fill(0, SECTOR + 16, SECTOR + 24)), [/another place/]);
  t.match(judge(operations, image([7, null, null, null])), [/of nobody/]);
  t.match(judge(operations, image([1, null, null, null]).fill(0, SECTOR - 8, SECTOR)), [/ends as another/]);
  const mixed = image([1, null, null, null]);
  mixed[100] = 1;
  t.match(judge(operations, mixed), [/between its ends is not what operation 1 wrote/]);
  t.end();
});
