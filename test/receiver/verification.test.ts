/** What an agent that verifies asks a receiver: the content at an LSN, once it is durable; and what is recorded of it. */
import { createHmac, randomBytes } from 'node:crypto';
import t from 'tap';
import { grades, SIZE, synced, writeMore } from './synced_scene.js';

const BLOCK = 64 * 1024;
const RANGE = { volume: 0, offset: 0n, length: SIZE, blockBytes: BLOCK };
const NOTHING = { differingBytes: 0n, differingExtents: 0n, firstOffset: 0n };

t.test('a point is hashed when it is durable, as the records up to it left the volume', async (t) => {
  const { agent, stream, hashKey } = await synced(t);
  const lsn = await agent.write(3 * BLOCK, randomBytes(BLOCK));
  const content = Buffer.from(agent.present);
  stream.say({ verifyRequest: { id: 7, lsn, ...RANGE } });
  const later = await agent.write(3 * BLOCK, randomBytes(BLOCK));
  stream.say({ verifyRequest: { id: 8, lsn: later, ...RANGE } });
  for (const frame of await agent.framesUpTo(later)) stream.ship(frame);
  const first = await stream.hear('verifyReply');
  const second = await stream.hear('verifyReply');
  t.match(first, { id: 7, code: '' });
  t.match(second, { id: 8, code: '' });
  const hashAt = ({ hashes }: { hashes: Buffer }, block: number): string =>
    hashes.subarray(block * 32, block * 32 + 32).toString('hex');
  const differ = Array.from({ length: SIZE / BLOCK }, (_, block) => block).filter(
    (block) => hashAt(first, block) !== hashAt(second, block),
  );
  t.same(differ, [3], 'each at its own instant');
  for (const block of [0, 3, 9]) {
    const bytes = content.subarray(block * BLOCK, (block + 1) * BLOCK);
    t.equal(hashAt(first, block), createHmac('sha256', hashKey).update(bytes).digest('hex'));
  }
});

t.test(
  'what differed is damaged from where it was last known to be equal, until it was mended',
  async (t) => {
    const scene = await synced(t);
    const { stream } = scene;
    const [whole = ''] = (await grades(scene)).slice(-1);
    const [begin = 0n] = (await writeMore(scene, 5)).slice(-1);
    const done = async (id: number, change: object): Promise<void> => {
      const none = { id, volume: 0, beginLsn: begin, endLsn: begin, ...NOTHING, complete: true };
      stream.say({ verifyDone: { ...none, ...change } });
      t.match(await stream.hear('verifyReply'), { id, code: '' });
    };
    await done(1, {});
    const [end = 0n] = (await writeMore(scene, 5)).slice(-1);
    const wrong = {
      beginLsn: end,
      endLsn: end,
      differingBytes: 8192n,
      differingExtents: 2n,
      firstOffset: 4096n,
    };
    await done(2, { ...wrong, complete: false });
    const from = /ordered (\d+)-/.exec(whole)?.[1] ?? '';
    t.same((await grades(scene)).slice(-2), [`ordered ${from}-${begin - 1n}`, `damaged ${begin}-${end}`]);
    const [mended = 0n] = (await writeMore(scene, 5)).slice(-1);
    await done(3, { ...wrong, endLsn: mended });
    t.same((await grades(scene)).slice(-3), [
      `ordered ${from}-${begin - 1n}`,
      `damaged ${begin}-${mended - 1n}`,
      `ordered ${mended}-${mended}`,
    ]);
  },
);

for (const [what, change] of [
  ['a volume that is not there', { volume: 3 }],
  ['nothing', { length: 0 }],
  ['beyond the end', { offset: 1n }],
  ['blocks that are too small', { blockBytes: 512 }],
  ['an LSN beyond all reason', { lsn: 2n ** 64n - 1n }],
] as const) {
  t.test(`a comparison of ${what} is refused`, async (t) => {
    const { stream } = await synced(t);
    stream.say({ verifyRequest: { id: 1, lsn: 1n, ...RANGE, ...change } });
    await t.rejects(stream.hear('verifyReply'), /SESSION_ORDER/);
  });
}
for (const [what, change] of [
  ['ends before it begins', { beginLsn: 9n, endLsn: 8n }],
  ['found more than there is', { differingBytes: BigInt(SIZE) + 1n, differingExtents: 1n }],
  ['found bytes in no extent', { differingBytes: 1n }],
  ['found something beyond the end', { firstOffset: BigInt(SIZE) }],
] as const) {
  t.test(`a verification that ${what} is refused`, async (t) => {
    const { stream } = await synced(t);
    const done = { id: 1, volume: 0, beginLsn: 1n, endLsn: 1n, ...NOTHING, complete: true };
    stream.say({ verifyDone: { ...done, ...change } });
    await t.rejects(stream.hear('verifyReply'), /SESSION_ORDER/);
  });
}
