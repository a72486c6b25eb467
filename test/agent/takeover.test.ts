/** A volume that a predecessor served, whose backing does not answer. A real ring; the disk that hangs is the test's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import type { InheritedGroup } from '../../agent/inheritance.js';
import { TakenGroup } from '../../agent/takeover.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

// Symptom: all that an agent does beside serving waited for a disk that did not answer; then its stop did, whatever was done
// to end it.
t.test('a backing that does not answer keeps nobody else waiting, and can be given up', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const backing = path.join(directory, 'volume.img');
  const inherited: InheritedGroup = {
    settings: {
      ...{ name: 'shop', uuid: Buffer.alloc(16, 1), member: Buffer.alloc(16, 2) },
      ...{ ringBytes: 8n << 20n, lingerUs: 3000, spool: null },
    },
    ring: null,
    isRingSuspect: false,
    volumes: [
      {
        settings: {
          ...{ name: 'data', number: 0, uuid: Buffer.alloc(16, 4), size: 1n << 20n, blockSize: 512, backing },
          ...{ mapped: null, stateDir: directory, cache: 'buffered' },
          attachment: { kind: 'socket', address: { unix: path.join(directory, 'data.sock') } },
        },
        ...{ isGrowing: false, inFlight: null, fuse: null, slots: null, listening: null },
      },
    ],
  };
  let answer: { open(device: native.BlockDevice): void; fail(error: Error): void } | undefined;
  let attempts = 0;
  const door = {
    ...native,
    reopenFileDevice: (): Promise<native.BlockDevice> => {
      attempts += 1;
      return new Promise((open, fail) => (answer = { open, fail }));
    },
  };
  const group = TakenGroup.open(
    inherited,
    door,
    systemClock,
    createLog('agent', 'fatal', { write: () => undefined }),
  );
  await group.serve();
  t.same(group.volumes, []);
  t.throws(() => group.refuseUnlessWhole(), { code: 'BACKING_FAILED' });
  t.match(group.configs, [{ name: 'data', backing }]);
  const end = new AbortController();
  const gone = group.letGo(end.signal);
  answer?.fail(new AfterimageError('BACKING_MISSING', backing));
  while (attempts < 2) await systemClock.sleep(20, end.signal);
  t.throws(() => group.refuseUnlessWhole(), { code: 'BACKING_MISSING' }, 'it was tried again');
  end.abort();
  await gone;
  t.doesNotThrow(() => group.refuseUnlessWhole(), 'it is given up while nothing answers');

  // As long as this process is there, what answers after all is not served.
  await writeFile(backing, Buffer.alloc(1 << 20));
  const options = { path: backing, cache: 'buffered', readOnly: false, exclusive: true } as const;
  answer?.open(await native.reopenFileDevice(options, 1n << 20n));
  const isClosed = (): Promise<boolean> =>
    native.reopenFileDevice(options, 1n << 20n).then(
      (device) => device.close().then(() => true),
      () => false,
    );
  while (!(await isClosed())) await systemClock.sleep(20, new AbortController().signal);
  t.same(group.volumes, []);
  t.doesNotThrow(() => group.refuseUnlessWhole());
  t.equal(attempts, 2, 'it is no longer tried');
});
