/**
 * What a user may not touch. Symptom: `afterimage agent run` without root, with the default state directory or a disk of
 * root's, said IO_ERROR "look at the kernel log, the disk failed"; a state that could not be read said STATE_INVALID
 * "remove it", and whoever did lost the member's identity.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { randomBytes, randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { openBacking } from '../../agent/backing.js';
import { runAgent } from '../../agent/main.js';
import { Succession } from '../../agent/succession.js';
import { MemberState } from '../../agent/state.js';
import * as native from '../../native/index.js';
import { openDatabase } from '../../receiver/catalog/database.js';
import { Store } from '../../receiver/store.js';
import { loadConfig, logLevel } from '../../service/config.js';
import { createLog } from '../../service/log.js';

const NOBODY = 65534;

/** Runs `work` as a user who is nobody; what a test made before is root's. */
async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.setegid?.(NOBODY);
  process.seteuid?.(NOBODY);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

/** A directory that everybody may enter. */
async function scratch(t: Test): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-forbidden-'));
  await chmod(directory, 0o755);
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A file, or with null a directory, that nobody may use. */
async function forbidden(file: string, content: string | Buffer | null): Promise<string> {
  if (content === null) await mkdir(file);
  else await writeFile(file, content);
  await chmod(file, 0o000);
  return file;
}

const newUuid = (): Buffer => randomBytes(16);
const unopened = (): Promise<native.BlockDevice> => Promise.reject(new Error('it was opened'));
const volume = (backing: string) =>
  ({
    ...({ name: 'data', backing, mapped: null, cache: 'buffered' } as const),
    attach: { kind: 'loop', threads: 4 },
  }) as const;

t.test('what this user may not touch is PERMISSION_DENIED, not a failed disk', async (t) => {
  const directory = await scratch(t);
  const place = (name: string): string => path.join(directory, name);
  const locked = await forbidden(place('locked'), null);
  const image = await forbidden(place('volume.img'), Buffer.alloc(1 << 20));
  await forbidden(place('db.json'), 'state');
  await mkdir(place('store'), { mode: 0o755 });
  await forbidden(place('store/store.json'), '{}');
  await mkdir(place('run'), { mode: 0o755 });
  await forbidden(place('run/agent.lock'), '');
  const never = new AbortController().signal;
  const signals = { drain: never, end: never };
  const log = createLog('agent', 'fatal');
  const agent = (stateDir: string) => async () => {
    const config = {
      receiver: { plain: { host: '127.0.0.1', port: 9 } },
      identityFile: place('identity.json'),
      stateDir,
      runDir: place('run'),
      control: place('run/agent.sock'),
      metrics: null,
      logLevel: 'fatal' as const,
      groups: [],
    };
    const succession = await Succession.begin(signals.drain, log);
    await runAgent(() => Promise.resolve(config), signals, '0', succession, { log });
  };
  const device = { path: image, cache: 'buffered', readOnly: false, exclusive: true } as const;
  const attempts: Record<string, () => Promise<unknown>> = {
    'a state directory that cannot be made': agent(path.join(locked, 'state')),
    'a lock of another user': agent(place('run')),
    'a backing that may not be opened': () => native.openFileDevice(device),
    'a backing where this user may not look': () =>
      openBacking(volume(path.join(locked, 'v.img')), null, '', '/', unopened),
    'a state file that may not be read': () => MemberState.open(directory, 'db', 'host', newUuid),
    'a state that may not be written': async () =>
      (await MemberState.open(directory, 'new', 'host', newUuid)).update({ host: 'other' }),
    'a state in a directory that cannot be made': async () =>
      (await MemberState.open(path.join(place('run'), 'new'), 'new', 'host', newUuid)).update({
        host: 'other',
      }),
    'a store of another user': () => Store.open(place('store'), native.lockFile),
    'a store where this user may not make one': () => Store.init(path.join(locked, 's'), randomUUID()),
    'a catalog of another user': () => Promise.resolve().then(() => openDatabase(image)),
    'a segment of another user': () => native.scanSegment(image, false),
    'a configuration of another user': () => loadConfig(image, logLevel),
  };
  for (const [what, attempt] of Object.entries(attempts)) {
    await t.rejects(asNobody(attempt), { code: 'PERMISSION_DENIED', exit: 4 }, what);
  }
});

t.test('a state that cannot be read is no state that is invalid', async (t) => {
  const directory = await scratch(t);
  await mkdir(path.join(directory, 'db.json')); // EISDIR, as good as EIO
  await t.rejects(MemberState.open(directory, 'db', 'host', newUuid), { code: 'IO_ERROR' });
});
