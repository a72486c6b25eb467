/** A loop attachment that goes wrong half-way. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { attachLoopDevice, type LoopDoor } from '../../agent/loop_attachment.js';
import { VolumeUse } from '../../agent/volume_use.js';
import type { BlockDevice } from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

// Symptom: the link could not be made, udev looked at the new device at that moment, and its detaching failed: the FUSE
// server went on over a volume that was closed, and the log named the device instead of the link. If it returns, the
// server is not stopped.
t.test('a failed attachment leaves no server, and says what failed first', async (t) => {
  const directory = t.testdir({ file: '' });
  let served = 0;
  const door: LoopDoor = {
    startFuseServer: ({ mountPoint, fileName }) => {
      writeFileSync(path.join(mountPoint, fileName), '');
      served += 1;
      return Promise.resolve({
        legacy: () => ({ fuse: 0, slots: 0, mountPoint, connection: 0 }),
        stop: () => {
          served -= 1;
          return Promise.reject(new AfterimageError('FUSE_MOUNT', 'unmount'));
        },
      });
    },
    resumeFuseServer: () => Promise.reject(new Error('nothing was inherited')),
    attachLoop: () => Promise.resolve('/dev/loop-none'),
    isLoopOver: () => Promise.resolve(true),
    detachLoop: () => Promise.reject(new AfterimageError('LOOP_BUSY', 'open')),
    resizeLoop: () => Promise.resolve(),
  };
  const lines: string[] = [];
  const log = createLog('agent', 'info', { write: (line: string) => void lines.push(line) });
  const places = { mountPoint: path.join(directory, 'mount'), link: path.join(directory, 'file', 'link') };
  mkdirSync(places.mountPoint);
  const use = new VolumeUse('data', systemClock, log);
  const device = { blockSize: 512 } as BlockDevice;
  const custody = { keep: () => Promise.resolve(), replace: () => undefined, forget: () => undefined };
  await t.rejects(attachLoopDevice(places, 1, device, door, use, custody, log), { message: /link|file/ });
  t.equal(served, 0);
  t.match(lines.join(''), /LOOP_BUSY.*FUSE_MOUNT/s, 'what is left is told too');
});
