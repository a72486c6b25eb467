/** A device of the nbd driver that is attached and taken away again; the driver itself: test/vm. */
import { existsSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { systemClock } from '../../agent/clock.js';
import type { KeptAttachment } from '../../agent/custody.js';
import { attachNbdDevice, nbdBackend, resumeNbdDevice, type NbdDoor } from '../../agent/nbd_attachment.js';
import { VolumeUse } from '../../agent/volume_use.js';
import type { BlockDevice } from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

/** No test may get at a real device. */
const DEVICE = '/dev/nbd-none';
const BACKEND = nbdBackend(Buffer.alloc(16, 7));

function scene(t: Test) {
  const directory = t.testdir({ file: '' });
  const calls: string[] = [];
  const state = { isUsed: false };
  const served = (call: string): ReturnType<NbdDoor['attachNbd']> => {
    calls.push(call);
    return Promise.resolve({ name: DEVICE, stop: () => Promise.resolve(void calls.push('stop')) });
  };
  const door: NbdDoor = {
    attachNbd: (_, backend) => served(`attach ${backend}`),
    resumeNbd: (_, backend, name) => served(`resume ${backend} ${name}`),
    resizeNbd: (name, backend, bytes) =>
      Promise.resolve(void calls.push(`resize ${name} ${backend} ${bytes}`)),
    detachNbd: (name, _, isForced) => {
      if (state.isUsed && !isForced) return Promise.reject(new AfterimageError('NBD_BUSY', name));
      calls.push(isForced ? 'take' : 'detach');
      return Promise.resolve();
    },
  };
  const kept: KeptAttachment[] = [];
  const custody = {
    keep: (describe: () => KeptAttachment) => Promise.resolve(void kept.push(describe())),
    replace: () => undefined,
    forget: () => void calls.push('forget'),
  };
  const log = createLog('agent', 'fatal');
  const use = new VolumeUse('data', systemClock, log);
  const attach = (link = path.join(directory, 'links', 'data')) =>
    attachNbdDevice(link, BACKEND, { size: 0n, blockSize: 512 } as BlockDevice, door, use, custody, log);
  return { directory, calls, state, door, kept, custody, use, attach };
}

t.test('what is attached is kept before its link is there, and taken away in order', async (t) => {
  const { directory, calls, kept, attach } = scene(t);
  const link = path.join(directory, 'links', 'data');
  const attachment = await attach();
  t.equal(attachment.device, DEVICE);
  t.equal(readlinkSync(link), DEVICE);
  t.same(kept, [{ attachment: { kind: 'nbd', device: DEVICE, link, backend: BACKEND }, descriptors: {} }]);
  await attachment.detach(new AbortController().signal);
  t.same(calls, [`attach ${BACKEND}`, 'detach', 'forget', 'stop']);
  t.notOk(existsSync(path.dirname(link)), 'the link is gone');
});

t.test('a failed attachment leaves neither device nor server', async (t) => {
  const { directory, calls, attach } = scene(t);
  await t.rejects(attach(path.join(directory, 'file', 'link')), { message: /file/ });
  t.same(calls, [`attach ${BACKEND}`, 'forget', 'detach', 'stop']);
});

t.test('a device in use is served until nobody uses it', async (t) => {
  const { calls, state, attach } = scene(t);
  const attachment = await attach();
  state.isUsed = true;
  const detaching = attachment.detach(new AbortController().signal);
  await sleep(300);
  t.same(calls, [`attach ${BACKEND}`], 'served on');
  state.isUsed = false;
  await detaching;
  t.same(calls.slice(1), ['detach', 'forget', 'stop']);
});

t.test('told to go at once, it is taken from whoever uses it: nobody would answer', async (t) => {
  const { calls, state, attach } = scene(t);
  const attachment = await attach();
  state.isUsed = true;
  await attachment.detach(AbortSignal.abort());
  t.same(calls.slice(1), ['take', 'forget', 'stop']);
});

t.test('a successor serves the device that its predecessor attached', async (t) => {
  const { calls, door, use, custody } = scene(t);
  const settings = { kind: 'nbd', device: '/dev/nbd5', link: '/none', backend: BACKEND } as const;
  const attachment = await resumeNbdDevice(settings, {} as BlockDevice, door, use, custody);
  t.same(calls, [`resume ${BACKEND} /dev/nbd5`]);
  t.equal(attachment.device, '/dev/nbd5');
});

t.test('what nobody uses is taken away at once, and what somebody uses stays', async (t) => {
  const { directory, calls, state, attach } = scene(t);
  const attachment = await attach();
  state.isUsed = true;
  t.equal(await attachment.detachUnused(), null);
  t.same(calls, [`attach ${BACKEND}`]);
  state.isUsed = false;
  const finish = await attachment.detachUnused();
  t.same(calls, [`attach ${BACKEND}`, 'detach'], 'the device is gone');
  await finish?.();
  t.same(calls, [`attach ${BACKEND}`, 'detach', 'forget', 'stop']);
  t.notOk(existsSync(path.join(directory, 'links')), 'and so is its link');
});
