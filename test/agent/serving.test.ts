import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { GroupCustody } from '../../agent/custody.js';
import { Serving } from '../../agent/serving.js';
import type { ProtectedVolume } from '../../agent/volume.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

function servingOf(volumes: readonly ProtectedVolume[]): Serving {
  const places = { runDir: '/nowhere', linkDir: '/nowhere' };
  const group = {
    name: 'db',
    uuid: Buffer.alloc(16),
    member: Buffer.alloc(16),
    ringBytes: 0n,
    lingerUs: 0,
    unmarkAfterMs: null,
    spool: null,
  };
  const log = createLog('agent', 'fatal');
  return new Serving(new GroupCustody(native, group, log), volumes, places, systemClock, log);
}

t.test('what is being attached when the end comes is taken away too', async (t) => {
  // It would have been attached after that, over a device that was closed.
  const did: string[] = [];
  let attached = (): void => undefined;
  const volume = {
    config: { name: 'data' },
    attachedAs: '/dev/loop9',
    failure: null,
    attach: () => new Promise<void>((resolve) => (attached = resolve)).then(() => void did.push('attached')),
    detach: () => Promise.resolve(void did.push('detached')),
  } as unknown as ProtectedVolume;
  const serving = servingOf([volume]);
  const begun = serving.begin();
  const ended = serving.end(new AbortController().signal);
  setImmediate(attached);
  await Promise.all([begun, ended]);
  t.same(did, ['attached', 'detached']);
});

t.test('one volume is taken away, and brought back', async (t) => {
  const did: string[] = [];
  let isUsed = true;
  const volume = {
    config: { name: 'data' },
    failure: null,
    attach: () => Promise.resolve(void did.push('attached')),
    detachUnused: () => Promise.resolve(!isUsed),
  } as unknown as ProtectedVolume;
  const serving = servingOf([volume]);
  await serving.begin();
  t.equal(await serving.removeUnused(volume), false);
  serving.serve();
  t.same(did, ['attached'], 'it is served all the while');
  isUsed = false;
  t.equal(await serving.removeUnused(volume), true);
  serving.serve();
  await new Promise(setImmediate);
  t.same(did, ['attached', 'attached']);
});

t.test('one that is being attached for the first time, and cannot be, is waited for once', async (t) => {
  let refuse = (): void => undefined;
  let attempts = 0;
  const volume = {
    config: { name: 'data' },
    failure: null,
    attach: () =>
      new Promise<void>((_resolve, reject) => {
        attempts += 1;
        refuse = () => reject(new AfterimageError('BACKING_BUSY', 'somebody has it'));
      }),
    detachUnused: () => Promise.resolve(true),
  } as unknown as ProtectedVolume;
  const serving = servingOf([volume]);
  serving.serve();
  const removed = serving.removeUnused(volume);
  setImmediate(refuse);
  t.equal(await removed, true, 'and not until it can be served');
  t.equal(attempts, 1);
});
