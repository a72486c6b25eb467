import t from 'tap';
import { backingSamples, evidenceOfSamples } from '../../agent/backing_samples.js';

const MIB = 1 << 20;

/** A backing in memory. */
const disk = (content: Buffer) => ({
  read: (offset: bigint, into: Buffer): Promise<void> => {
    const begin = Number(offset);
    if (begin + into.length > content.length) return Promise.reject(new Error('beyond its end'));
    content.copy(into, 0, begin);
    return Promise.resolve();
  },
});

t.test(
  'a change in the first megabyte, at an even place or in the last block shows, one elsewhere does not',
  async (t) => {
    const content = Buffer.alloc(96 * MIB + 512, 1);
    const size = BigInt(content.length);
    const before = await backingSamples(disk(content), size);
    t.equal(await backingSamples(disk(content), size), before);
    const changed = async (offset: number): Promise<boolean> => {
      content[offset] = 2;
      const now = await backingSamples(disk(content), size);
      content[offset] = 1;
      return now !== before;
    };
    // Every quarter is the head of an allocation group of XFS.
    for (const offset of [0, 1080, MIB - 1, 24 * MIB + 128, 48 * MIB + 256, 72 * MIB + 384, 96 * MIB + 511])
      t.ok(await changed(offset), `at ${offset}`);
    t.notOk(await changed(2 * MIB));
    t.equal(
      await backingSamples(disk(Buffer.concat([content, content])), size),
      before,
      'of what it had when it grows',
    );
    t.not(await backingSamples(disk(content), size - 512n), before, 'of another size');
  },
);

t.test('small ones, and those that cannot be read', async (t) => {
  for (const bytes of [512, 4096, 4608, MIB, MIB + 512]) {
    const content = Buffer.alloc(bytes, 1);
    const before = await backingSamples(disk(content), BigInt(bytes));
    t.match(before, /^[0-9a-f]{64}$/);
    content[bytes - 1] = 2;
    t.not(await backingSamples(disk(content), BigInt(bytes)), before);
    t.equal(await backingSamples(disk(content), BigInt(bytes + 512)), '', 'not all of it is there');
  }
});

t.test('what samples add to a fingerprint', (t) => {
  t.equal(evidenceOfSamples('untouched', 'a', 'a'), 'untouched');
  t.equal(evidenceOfSamples('untouched', 'a', 'b'), 'changed');
  t.equal(evidenceOfSamples('none', 'a', 'b'), 'changed');
  t.equal(evidenceOfSamples('changed', 'a', 'a'), 'changed');
  t.equal(evidenceOfSamples('untouched', 'a', ''), 'none', 'nothing vouches for it');
  t.equal(evidenceOfSamples('changed', 'a', ''), 'changed');
  t.equal(evidenceOfSamples('untouched', '', 'a'), 'untouched', 'a state that has none');
  t.end();
});
