/** Somebody else on the same machine: no way in by control sockets, by what lies about, or by what was put there beforehand. */
import { chmod, chown, lstat, mkdtemp, readFile, rename, rmdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { lockDirectory } from '../../agent/directory.js';
import { Authority } from '../../receiver/authority.js';
import { Store } from '../../receiver/store.js';
import * as native from '../../native/index.js';
import { readIdentity } from '../../service/identity.js';
import { RpcServer } from '../../service/rpc.js';
import { isRoot, skipUnless } from '../prerequisite.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { command } from '../scenario/command.js';
import { CLI } from '../scenario/daemon.js';

const NOBODY = 65534;
const asNobody = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
const root = { skip: skipUnless(isRoot, 'root') };

/** Everybody may look for what is in it. */
async function open(directory: string): Promise<void> {
  await chmod(directory, 0o711);
}

t.test('control sockets are for their owner', root, async (t) => {
  const receiver = await RunningReceiver.start(t);
  await open(receiver.directory);
  await open(path.join(receiver.directory, 'run'));
  const socket = path.join(receiver.directory, 'run', 'receiver.sock');
  t.equal((await lstat(socket)).mode & 0o777, 0o600);
  const ask = (args: string[]) =>
    command('setpriv', [...asNobody, process.execPath, CLI, ...args, '--control', socket], { accept: [4] });
  for (const verb of [
    ['status'],
    ['receiver', 'token', 'create', '--host', 'x'],
    ['checkpoint', 'delete', 'db', 'x'],
  ])
    t.match((await ask(verb)).stderr, /PERMISSION_DENIED/, verb.join(' '));
  const read = (file: string) =>
    command('setpriv', [...asNobody, 'cat', path.join(receiver.store, file)], { accept: [1] });
  await open(receiver.store);
  for (const file of ['authority.pem', 'audit.log'])
    t.match((await read(file)).stderr, /Permission denied/, file);
});

async function unsafe(test: Test, what: string, use: (directory: string) => Promise<unknown>): Promise<void> {
  // The path of a socket must be short.
  const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-unsafe-'));
  test.teardown(() => rmdir(directory));
  await chown(directory, NOBODY, NOBODY);
  await test.rejects(
    use(directory),
    { code: 'PATH_UNSAFE', message: /belongs to another user/ },
    `${what}: of another user`,
  );
  await chown(directory, 0, 0);
  for (const mode of [0o777, 0o770, 0o702]) {
    await chmod(directory, mode);
    await test.rejects(
      use(directory),
      { code: 'PATH_UNSAFE', message: /others/ },
      `${what}: ${mode.toString(8)}`,
    );
  }
}

t.test('a directory that somebody has made beforehand', root, async (t) => {
  await t.test('of the agent', (t) => unsafe(t, 'state', lockDirectory));
  await t.test('of the store', (t) =>
    unsafe(t, 'store', (directory) => Store.open(directory, native.lockFile)),
  );
  await t.test('of a control socket', (t) =>
    unsafe(t, 'run', (directory) => new RpcServer().listenUnix(path.join(directory, 'a.sock'))),
  );
});

t.test('a link in the place of a control socket', async (t) => {
  const directory = t.testdir({ victim: 'precious' });
  await symlink(path.join(directory, 'victim'), path.join(directory, 'a.sock'));
  await t.rejects(new RpcServer().listenUnix(path.join(directory, 'a.sock')), { code: 'LISTEN_FAILED' });
  t.equal(await readFile(path.join(directory, 'victim'), 'utf8'), 'precious');
});

t.test('a key that others can read is none', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const authority = path.join(receiver.store, 'authority.pem');
  t.equal((await lstat(authority)).mode & 0o777, 0o600);
  const identity = path.join(receiver.directory, 'identity.json');
  await writeFile(identity, '{}', { mode: 0o644 });
  await t.rejects(readIdentity(identity), { code: 'PATH_UNSAFE' });
  await chmod(authority, 0o640);
  await t.rejects(Authority.open(authority), { code: 'PATH_UNSAFE' });
  await receiver.stop();
  await t.rejects(receiver.run(), { code: 'PATH_UNSAFE' }, 'and the receiver does not start with it');
  await chmod(authority, 0o600);
  await rename(authority, `${authority}.away`);
  await writeFile(authority, 'x', { mode: 0o600 });
  await t.rejects(receiver.run(), { code: 'AUTHORITY_INVALID' });
  await rename(`${authority}.away`, authority);
  await receiver.run();
});
