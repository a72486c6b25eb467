import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import * as native from '../../native/index.js';
import { AfterimageError, type ErrorCode } from '../../proto/errors.js';

const [groupId, memberId] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];

/** What `call` ended with: an error with that code, and with this file in its stack. */
async function endsWith(t: Test, code: ErrorCode, call: () => unknown): Promise<AfterimageError> {
  let caught: unknown;
  try {
    await call();
  } catch (thrown) {
    caught = thrown;
  }
  if (!(caught instanceof AfterimageError)) throw new Error(`not coded: ${String(caught)}`);
  t.equal(caught.code, code, caught.message);
  t.match(caught.stack, 'errors.test', 'the stack leads here');
  return caught;
}

// Symptom: `catch` blocks that match on `code` saw none, and logs showed errors without a line of JavaScript, when a
// method of an object of the addon failed: only the functions that return these objects coded their errors.
t.test('what the methods of the addon throw and reject with is coded, with a stack', async (t) => {
  const directory = t.testdir();
  const file = `${directory}/backing`;
  writeFileSync(file, Buffer.alloc(1 << 20));
  const options = { path: file, cache: 'buffered', readOnly: false, exclusive: false } as const;
  const backing = await native.openFileDevice(options);
  await endsWith(t, 'IO_ERROR', () => backing.read(1n << 20n, Buffer.alloc(512)));
  await endsWith(t, 'BACKING_MISSING', () => native.openFileDevice({ ...options, path: `${file}.gone` }));

  const group = native.createCaptureGroup({
    group: groupId,
    member: memberId,
    ringBytes: 8n << 20n,
    lingerUs: 0,
    lastTimeNs: 0n,
    era: 1,
    spool: null,
  });
  await endsWith(t, 'WATERMARK_INVALID', () => group.release(9n));
  const start = { epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: 1000n };
  group.beginGeneration(start);
  await endsWith(t, 'GENERATION_INVALID', () => group.beginGeneration(start));
  const volume = group.addVolume(0, backing, null, null);
  await endsWith(t, 'IO_ERROR', () => volume.republish(1n << 20n, 4096));
  await volume.close();
  await endsWith(t, 'INTERNAL', () => volume.flush());
  await group.close();
  await endsWith(t, 'INTERNAL', () => group.stats());
  await backing.close();

  mkdirSync(`${directory}/journal`);
  const writer = await native.openJournal({
    headroomBytes: 0n,
    directory: `${directory}/journal`,
    group: groupId,
    member: memberId,
    segmentBytes: 64n << 20n,
    position: { epoch: 0n, generation: 0n, lastLsn: 0n, link: 0 },
    tail: null,
  });
  await endsWith(t, 'FRAME_TRUNCATED', () => writer.append(Buffer.alloc(8)));
  writer.resume(1n);
  await endsWith(t, 'RECORD_INVALID', () => writer.beginGeneration(1n, 1n, 1n, []));
  await writer.close();
});

t.test('a wrong argument is an error of the call, and a rejection where there is a promise', async (t) => {
  const file = `${t.testdir()}/backing`;
  writeFileSync(file, Buffer.alloc(1 << 20));
  const device = await native.openFileDevice({
    path: file,
    cache: 'buffered',
    readOnly: false,
    exclusive: false,
  });
  const promise = device.read(0 as unknown as bigint, Buffer.alloc(512));
  t.ok(promise instanceof Promise);
  const error = await endsWith(t, 'INTERNAL', () => promise);
  t.equal(error.message, 'offset must be a bigint');
  for (const length of [1.5, -1, 2 ** 32, Number.NaN])
    await endsWith(t, 'INTERNAL', () => native.copyRange(device, device, 0n, length, false));
  await endsWith(t, 'INTERNAL', () => native.openOverlay({} as native.BlockDevice, '/tmp'));
  await device.close();
});

// Symptom: a frame in a slice that begins at an odd address ended the receiver, by an assertion in the thread of its
// journal. If it returns, this process is aborted.
t.test('a frame at an odd address is refused, and the journal goes on', async (t) => {
  const writer = await native.openJournal({
    headroomBytes: 0n,
    directory: t.testdir(),
    group: groupId,
    member: memberId,
    segmentBytes: 64n << 20n,
    position: { epoch: 0n, generation: 0n, lastLsn: 0n, link: 0 },
    tail: null,
  });
  const odd = Buffer.alloc(4097).subarray(1);
  const error = await endsWith(t, 'INTERNAL', () => writer.append(odd));
  t.ok(error.cause instanceof TypeError);
  await endsWith(t, 'FRAME_CORRUPT', () => writer.append(Buffer.alloc(4096)));
  await writer.close();
});

// Symptom: what could not be duplicated counted as "none", and an NBD export listened anew beside the socket of its
// predecessor, in which clients waited.
t.test('a descriptor that cannot be gone on with is an error', async (t) => {
  const path = `${t.testdir()}/nbd.sock`;
  const options = { unix: path, tcp: null, exports: [] };
  const NOBODYS = 900_000;
  await endsWith(t, 'IO_ERROR', () => native.openNbdServer(options, NOBODYS));
  t.notOk(existsSync(path), 'it listens nowhere');
});

t.test('an NBD export names its IPv6 address in brackets', async (t) => {
  const tcp = { host: '::1', port: 0 };
  const server = await native.openNbdServer({ unix: null, tcp, exports: [] }, null);
  t.match(server.address, /^tcp:\[::1\]:[1-9][0-9]*$/);
  await server.stop();
});
