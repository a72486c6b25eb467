import { writeFileSync } from 'node:fs';
import t from 'tap';
import * as native from '../../native/index.js';

// Symptom: a frame that was released twice ended the agent, and with it the threads that served the volume, by an
// assertion (R7); had its buffer been lent again in between, the second release would have given away a frame that was
// being sent. If it returns, this process is aborted.
t.test('a frame that is released twice is an error in JavaScript, and its buffer is lent once', async (t) => {
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
  for (let lsn = 1n; lsn <= 3n; lsn += 1n) {
    await volume.write(0n, Buffer.alloc(4096, Number(lsn)));
    const frame = await group.next();
    if (frame?.kind !== 'frame') throw new Error('no frame came');
    t.equal(frame.lastLsn, lsn);
    frame.release();
    t.throws(() => frame.release(), { message: 'the frame was released before' });
  }
  await volume.close();
  await backing.close();
  await group.close();
});
