/** Volumes that a predecessor served, whose backings do not answer. */
import { mkdtempSync, rmSync } from 'node:fs';
import { stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import type { InheritedGroup } from '../../agent/inheritance.js';
import { TakenGroup } from '../../agent/takeover.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';
import { FaultDirectory } from '../fault/fault_directory.js';
import { Scratch } from '../scenario/scratch.js';
import { isRoot, skipUnless } from '../prerequisite.js';

const SIZE = 1n << 20n;
const never = new AbortController().signal;
const silent = createLog('agent', 'fatal', { write: () => undefined });

/** A group of sockets in `directory`, of the volumes in `backings`, by name. */
function inheritedFrom(directory: string, backings: Record<string, string>): InheritedGroup {
  return {
    settings: {
      ...{ name: 'shop', uuid: Buffer.alloc(16, 1), member: Buffer.alloc(16, 2) },
      ...{ ringBytes: 8n << 20n, lingerUs: 3000, unmarkAfterMs: null, spool: null },
    },
    ring: null,
    isRingSuspect: false,
    volumes: Object.entries(backings).map(([name, backing], number) => ({
      settings: {
        ...{ name, number, uuid: Buffer.alloc(16, 4 + number), size: SIZE, blockSize: 512, backing },
        ...{ mapped: null, stateDir: directory, cache: 'buffered' },
        attachment: { kind: 'socket', address: { unix: path.join(directory, `${name}.sock`) } },
      },
      ...{ isGrowing: false, inFlight: null, fuse: null, slots: null, listening: null },
    })),
  };
}

// Symptom: all that an agent does beside serving waited for a disk that did not answer.
t.test('a backing that does not answer keeps nobody else waiting, and can be given up', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const backing = path.join(directory, 'volume.img');
  const inherited = inheritedFrom(directory, { data: backing });
  let fail: (error: Error) => void = () => undefined;
  let attempts = 0;
  const door = {
    ...native,
    reopenFileDevice: (): Promise<native.BlockDevice> => {
      attempts += 1;
      return new Promise((_, reject) => (fail = reject));
    },
  };
  const group = TakenGroup.open(inherited, door, systemClock, silent);
  await group.serve();
  t.same(group.volumes, []);
  t.throws(() => group.refuseUnlessWhole(), { code: 'BACKING_FAILED' });
  t.match(group.configs, [{ name: 'data', backing }]);
  const end = new AbortController();
  const gone = group.letGo(end.signal);
  fail(new AfterimageError('BACKING_MISSING', backing));
  while (attempts < 2) await systemClock.sleep(20, end.signal);
  t.throws(() => group.refuseUnlessWhole(), { code: 'BACKING_MISSING' }, 'it was tried again');
  end.abort();
  fail(new AfterimageError('BACKING_MISSING', backing));
  await gone;
  t.doesNotThrow(() => group.refuseUnlessWhole(), 'it is no longer tried');
  t.equal(attempts, 2);
});

// Symptom: the backings of four volumes hung, the agent was killed, and no other volume was served again. Cause: each wait
// for a disk held one of libuv's four threads, for which all other work of the process waited too. If it returns, `well` is
// served only when the disk goes on.
t.test(
  'backings of any number of volumes that hang keep no other volume waiting, and no file of the agent',
  { skip: skipUnless(isRoot, 'root') },
  async (t) => {
    const scratch = await Scratch.create('takeover');
    t.teardown(() => scratch.clean());
    const disk = await FaultDirectory.start(scratch, 'disk');
    const ill = ['a', 'b', 'c', 'd', 'e', 'f'].map((name): [string, string] => [
      name,
      path.join(disk.mount, `${name}.img`),
    ]);
    const backings = Object.fromEntries([...ill, ['well', scratch.path('well.img')]]);
    for (const backing of Object.values(backings)) {
      await writeFile(backing, '');
      await truncate(backing, Number(SIZE));
    }
    const group = TakenGroup.open(inheritedFrom(scratch.directory, backings), native, systemClock, silent);
    disk.hang();
    await group.serve();
    const served = (): string[] => group.volumes.map(({ config }) => config.name).sort();
    const atOnce = served();
    const file = await Promise.race([stat(scratch.path('well.img')), systemClock.sleep(2000, never)]);
    disk.goOn();
    t.same(atOnce, ['well']);
    t.ok(file, 'files are there');
    while (served().length < 7) await systemClock.sleep(20, never);
    t.doesNotThrow(() => group.refuseUnlessWhole());
    await group.letGo(AbortSignal.abort());
  },
);
