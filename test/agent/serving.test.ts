import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { GroupCustody } from '../../agent/custody.js';
import { Serving } from '../../agent/serving.js';
import type { ProtectedVolume } from '../../agent/volume.js';
import * as native from '../../native/index.js';
import { createLog } from '../../service/log.js';

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
  const custody = new GroupCustody(native, group, createLog('agent', 'fatal'));
  const serving = new Serving(custody, [volume], places, systemClock, createLog('agent', 'fatal'));
  const begun = serving.begin();
  const ended = serving.end(new AbortController().signal);
  setImmediate(attached);
  await Promise.all([begun, ended]);
  t.same(did, ['attached', 'detached']);
});
