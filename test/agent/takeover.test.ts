/** Volumes that a predecessor served, where something does not answer. A real ring; dmsetup is the test's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
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
        ...{ mapped: null, stateDir: directory, cache: 'buffered', sight: null },
        attachment: { kind: 'socket', address: { unix: path.join(directory, `${name}.sock`) } },
      },
      ...{ isGrowing: false, inFlight: null, fuse: null, slots: null, listening: null },
    })),
  };
}

// Symptom: all that an agent does beside serving waited for a disk that did not answer; then its stop did, whatever was done
// to end it.
t.test('a backing that does not answer keeps nobody else waiting, and can be given up', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const backing = path.join(directory, 'volume.img');
  const inherited = inheritedFrom(directory, { data: backing });
  let answer: { open(device: native.BlockDevice): void; fail(error: Error): void } | undefined;
  let attempts = 0;
  const door = {
    ...native,
    reopenFileDevice: (): Promise<native.BlockDevice> => {
      attempts += 1;
      return new Promise((open, fail) => (answer = { open, fail }));
    },
  };
  const group = TakenGroup.open(inherited, door, systemClock, silent);
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
  answer?.open(await native.reopenFileDevice(options, 1n << 20n, 0n));
  const isClosed = (): Promise<boolean> =>
    native.reopenFileDevice(options, 1n << 20n, 0n).then(
      (device) => device.close().then(() => true),
      () => false,
    );
  while (!(await isClosed())) await systemClock.sleep(20, new AbortController().signal);
  t.same(group.volumes, []);
  t.doesNotThrow(() => group.refuseUnlessWhole());
  t.equal(attempts, 2, 'it is no longer tried');
});

/** As much of dmsetup as MappedDevice.connect needs, over files in its directory; `load` fails as long as there is "broken". */
const DMSETUP = `#!/bin/sh
cd "$(dirname "$0")" || exit
case $1 in
info) printf '254/0/Active/data/\\n254/1/Active/data-afterimage/AFTERIMAGE-1\\n' ;;
table) cat "$2" ;;
load) cat >next; if [ -e broken ]; then echo broken >>tried; exit 1; fi ;;
resume) mv next data ;;
esac
`;

// Symptom: an agent was killed between its serving a volume that was being inserted and the I/O's getting there, and the state
// of its successor could not be read: the loop device was served, and the file system above hung.
t.test('the I/O of a mapped volume gets to it without a session', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const PATH = process.env['PATH'] ?? '';
  process.env['PATH'] = `${directory}:${PATH}`;
  t.teardown(() => (process.env['PATH'] = PATH));
  await writeFile(path.join(directory, 'dmsetup'), DMSETUP, { mode: 0o755 });
  const table = path.join(directory, 'data');
  await writeFile(table, '0 2048 multipath 3 queue_if_no_path queue_mode bio 0 0 0\n');
  await writeFile(path.join(directory, 'broken'), '');
  const backing = path.join(directory, 'volume.img');
  await writeFile(backing, Buffer.alloc(1 << 20));
  const device = '/dev/null';
  const nbd = { name: device, stop: () => Promise.resolve() } as unknown as native.NbdDevice;
  const door = {
    ...native,
    resumeNbd: () => Promise.resolve(nbd),
    detachNbd: () => Promise.resolve(),
  };
  const mapped = { device: '/dev/mapper/data', insertion: 'AFTERIMAGE-1' };
  const attachment = {
    kind: 'nbd' as const,
    device,
    link: path.join(directory, 'link'),
    backend: 'afterimage-x',
  };
  const clock = {
    ...systemClock,
    sleep: (ms: number, signal: AbortSignal) => systemClock.sleep(Math.min(ms, 20), signal),
  };
  const group = inheritedFrom(directory, { data: backing });
  const inherited: InheritedGroup = {
    ...group,
    volumes: group.volumes.map((each) => ({ ...each, settings: { ...each.settings, mapped, attachment } })),
  };
  const open = async (): Promise<TakenGroup> => {
    const taken = TakenGroup.open(inherited, door, clock, silent);
    await taken.serve();
    while (taken.volumes.length === 0) await clock.sleep(20, never);
    return taken;
  };
  const until = async (is: () => Promise<boolean>): Promise<void> => {
    while (!(await is())) await clock.sleep(20, new AbortController().signal);
  };
  const tried = (): Promise<string> => readFile(path.join(directory, 'tried'), 'utf8').catch(() => '');
  const first = await open();
  t.doesNotThrow(() => first.refuseUnlessWhole(), 'whether the I/O gets there or not, it is served');
  await until(async () => (await tried()).length > 'broken\n'.length);
  await rm(path.join(directory, 'broken'));
  await until(async () => (await readFile(table, 'utf8')).includes('1 1 round-robin 0 1 1 /dev/null 1'));
  const end = new AbortController();
  await first.letGo(end.signal);

  await writeFile(table, '0 2048 multipath 3 queue_if_no_path queue_mode bio 0 0 0\n');
  await writeFile(path.join(directory, 'broken'), '');
  const again = await open();
  await again.letGo(end.signal);
  const before = await tried();
  for (let count = 0; count < 5; count += 1) await clock.sleep(20, end.signal);
  t.equal(await tried(), before, 'what is taken away is not tried any more');
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
