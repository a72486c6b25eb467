import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { StoredState } from '../../agent/session_events.js';
import { MemberState } from '../../agent/state.js';

const newUuid = (): Buffer => randomBytes(16);
const openState = (directory: string): Promise<MemberState> =>
  MemberState.open(directory, 'db', 'host-1', newUuid);

const stream: StoredState = {
  epoch: 3n,
  generation: 2n,
  durableLsn: 2n ** 63n + 1n,
  lsnCeiling: 2n ** 64n - 1n,
  clean: true,
  volumes: [{ number: 0, uuid: randomBytes(16), name: 'data', size: 1n << 40n, blockSize: 512 }],
  timeNs: 1_790_000_000_123_456_789n,
  era: 4,
  acceptedGeneration: 0n,
  processes: [],
  unwelcomedLogs: [],
};

t.test('what was kept is there after a restart, to the last bit', async (t) => {
  const directory = t.testdir();
  const before = await openState(directory);
  t.equal(before.memory.stream, null);
  const volume = {
    number: 0,
    uuid: randomBytes(16),
    size: 1n << 40n,
    backing: '/dev/vdb',
    fingerprint: 'x',
    samples: 'y',
    identity: 'wwid naa.5',
    insertion: '',
  };
  await before.update({ stream, volumes: { data: volume } });
  const after = await openState(directory);
  t.strictSame(after.memory, before.memory);
  t.strictSame(after.memory.stream, stream);
});

t.test('a member that kept nothing is a new one at the next start', async (t) => {
  const directory = t.testdir();
  const first = await openState(directory);
  const second = await openState(directory);
  t.notSame(first.memory.member, second.memory.member);
  t.strictSame(readdirSync(directory), []);
});

t.test('updates that overlap end with the last one on disk, whole', async (t) => {
  const directory = t.testdir();
  const state = await openState(directory);
  await Promise.all([1n, 2n, 3n].map((epoch) => state.update({ stream: { ...stream, epoch } })));
  t.equal((await openState(directory)).memory.stream?.epoch, 3n);
  t.strictSame(readdirSync(directory), ['db.json'], 'nothing temporary is left');
});

t.test('a failed write is told, and the next one may succeed', async (t) => {
  const directory = t.testdir({ [`db.json.${process.pid}.tmp`]: {} });
  const state = await openState(directory);
  await t.rejects(state.update({ stream }), { code: 'IO_ERROR' });
  t.equal((await openState(directory)).memory.stream, null, 'the file is as it was');
});

t.test('a state file that is torn, flipped, foreign or of another version is refused', async (t) => {
  const directory = t.testdir();
  const file = path.join(directory, 'db.json');
  await (await openState(directory)).update({ stream });
  const whole = readFileSync(file, 'utf8');
  const flipped = whole.replace('"epoch":"3"', '"epoch":"2"');
  t.not(flipped, whole);
  const damages: Record<string, string> = {
    torn: whole.slice(0, whole.length / 2),
    empty: '',
    flipped,
    version: whole.replace('"version":1', '"version":2'),
    foreign: '{"version":1}',
  };
  for (const [name, text] of Object.entries(damages)) {
    writeFileSync(file, text);
    await t.rejects(openState(directory), { code: 'STATE_INVALID', message: /db\.json/ }, name);
  }
  writeFileSync(file, whole);
  await t.resolves(openState(directory));
});
