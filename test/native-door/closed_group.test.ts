import { readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import t from 'tap';
import * as native from '../../native/index.js';

/** What a live group holds of the process: its pump's thread, and the memfd of its ring. */
function held(): { pumps: number; rings: number } {
  const count = (directory: string, isOne: (entry: string) => boolean) =>
    readdirSync(directory).filter((name) => {
      try {
        return isOne(`${directory}/${name}`);
      } catch {
        return false; // of the listing itself, or of a thread that has just ended
      }
    }).length;
  return {
    pumps: count('/proc/self/task', (task) => readFileSync(`${task}/comm`, 'utf8') === 'frame-pump\n'),
    rings: count('/proc/self/fd', (fd) => readlinkSync(fd).includes('afterimage-ring')),
  };
}

// Symptom: after one frame had been delivered, close() resolved and the pump's thread, the locked ring of up to
// 256 MiB and its memfd stayed, until two collections later the main thread joined the pump in a finalizer. Cause: each
// frame buffer shared the whole group. If it returns, the group still has them here.
t.test('a closed group is gone, whoever still holds a frame or a volume of it', async (t) => {
  const file = `${t.testdir()}/backing`;
  writeFileSync(file, Buffer.alloc(1 << 20));
  const backing = await native.openFileDevice({
    path: file,
    cache: 'buffered',
    readOnly: false,
    exclusive: true,
  });
  const group = native.createCaptureGroup({
    group: Buffer.alloc(16, 1),
    member: Buffer.alloc(16, 2),
    ringBytes: 8n << 20n,
    lingerUs: 0,
    lastTimeNs: 0n,
    era: 1,
    spool: null,
  });
  const volume = group.addVolume(0, backing, null, null);
  group.beginGeneration({ epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: 1000n });
  group.startShipping(0n, 0);
  await volume.write(0n, Buffer.alloc(4096, 7));
  const frame = await group.next();
  if (frame?.kind !== 'frame') throw new Error('no frame came');
  const bytes = Buffer.from(frame.buffer);
  t.same(held(), { pumps: 1, rings: 1 });

  await group.close();
  t.same(held(), { pumps: 0, rings: 0 });
  t.same(frame.buffer, bytes, 'what is still being sent is unchanged');
  frame.release();
  await volume.write(0n, Buffer.alloc(4096, 8));
  t.equal(await volume.republish(0n, 4096), 0n, 'the stream is closed');
  await volume.close();
  await backing.close();
  t.same(readFileSync(file).subarray(0, 4096), Buffer.alloc(4096, 8), 'production goes on');
});
