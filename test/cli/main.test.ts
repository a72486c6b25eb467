/** The program itself, as a shell starts it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { cannedReceiver, recoverProgress, temporary } from './canned.js';

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

function start(runDir: string, argv: string[]) {
  const child = spawn(process.execPath, [MAIN, ...argv], {
    env: { ...process.env, AFTERIMAGE_RUN_DIR: runDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => (said[stream] += text));
  }
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  return { child, said, ended };
}

t.test('it asks, prints and ends by itself', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir);
  const { said, ended } = start(runDir, ['checkpoint', 'list', '--json']);
  t.same(await ended, [0, null]);
  t.match(JSON.parse(said.stdout), { checkpoints: [{ name: 'noon' }] });
  t.equal(said.stderr, '');
});

t.test('its exit status is that of the error', async (t) => {
  const { said, ended } = start(await temporary(t), ['timeline', 'db']);
  t.same(await ended, [6, null]);
  t.match(said.stderr, /^error DAEMON_UNREACHABLE: /);
  t.equal(said.stdout, '');
});

t.test('Ctrl-C during a recovery ends it in order, with 130', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir, {
    async *recover(_request, { signal }) {
      yield recoverProgress(100n);
      await once(signal, 'abort');
    },
  });
  const { child, said, ended } = start(runDir, ['recover', 'db', '--at', 'latest', '--to', 'x']);
  while (!said.stderr.includes('10 %')) await once(child.stderr, 'data');
  child.kill('SIGINT');
  t.same(await ended, [130, null]);
  t.match(said.stderr, /error INTERRUPTED: .* with --at lsn:\d+ it goes on/);
});

t.test(
  'Ctrl-C while a checkpoint is on its way ends the wait, with 130, and the daemon learns of it',
  async (t) => {
    const runDir = await temporary(t);
    let asked: () => void = () => undefined;
    const isAsked = new Promise<void>((resolve) => (asked = resolve));
    let learned: () => void = () => undefined;
    const hasLearned = new Promise<void>((resolve) => (learned = resolve));
    await cannedReceiver(t, runDir, {
      async checkpointCreate(_request, { signal }) {
        asked();
        await once(signal, 'abort');
        learned();
        throw new AfterimageError('INTERRUPTED', 'the caller went away');
      },
    });
    const { child, said, ended } = start(runDir, ['checkpoint', 'create', 'db', 'noon']);
    await isAsked;
    child.kill('SIGINT');
    t.same(await ended, [130, null]);
    t.match(said.stderr, /^error INTERRUPTED: /);
    t.equal(said.stdout, '');
    await hasLearned;
  },
);

t.test('Ctrl-C at any moment of `receiver init` leaves a whole store or none', async (t) => {
  const directory = await temporary(t);
  const init = (name: string) =>
    start(directory, ['receiver', 'init', '--store', path.join(directory, name)]);
  const begun = Date.now();
  await init('first').ended;
  const wholeMs = Date.now() - begun;
  for (let eighth = 1; eighth <= 8; eighth += 1) {
    const name = `store-${eighth}`;
    const { child, said, ended } = init(name);
    await delay((wholeMs * eighth) / 8);
    child.kill('SIGINT');
    const [status, signal] = await ended;
    const found = await readdir(path.join(directory, name)).catch(() => null);
    const whole = ['authority.pem', 'groups', 'scratch', 'store.json'];
    if (status === 0) t.same(found?.sort(), whole, 'it was made');
    else if (status === 130) t.same(found, null, `it was not: ${said.stderr}`);
    // Before the command's first line runs, and after its last, the signal has its usual effect.
    else t.same([signal, found?.sort() ?? whole], ['SIGINT', whole], 'nothing by halves');
  }
});

t.test('Ctrl-C and Ctrl-D at a question end it in order, with 130', async (t) => {
  // readline takes both keys itself, and rejects: that was told as a defect, with a stack.
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir, {
    // eslint-disable-next-line require-yield -- it is refused before it begins
    async *recover() {
      await Promise.resolve();
      throw new AfterimageError('TARGET_NOT_EMPTY', 'x is not empty');
    },
  });
  for (const key of ['\x03', '\x04']) {
    const line = `'${process.execPath}' '${MAIN}' recover db --at latest --to x`;
    const child = spawn('script', ['-qec', line, '/dev/null'], {
      env: { ...process.env, AFTERIMAGE_RUN_DIR: runDir },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text));
    const ended = once(child, 'close');
    while (!shown.includes('[y/N]')) await once(child.stdout, 'data');
    child.stdin.write(key);
    t.same(await ended, [130, null]);
    t.match(shown, /INTERRUPTED/);
    t.notMatch(shown, /INTERNAL|defect/);
  }
});

t.test('a reader that goes away ends a watch without a complaint', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir);
  const { child, said, ended } = start(runDir, ['status', '--watch', '--json']);
  while (!said.stdout.includes('\n')) await once(child.stdout, 'data');
  child.stdout.destroy();
  t.same(await ended, [0, null]);
  t.equal(said.stderr, '');
});

t.test('--version and --help', async (t) => {
  const version = start('/nowhere', ['--version']);
  t.same(await version.ended, [0, null]);
  t.match(version.said.stdout, /^\d+\.\d+\.\d+\n$/);
  const help = start('/nowhere', ['export', '--help']);
  t.same(await help.ended, [0, null]);
  t.match(help.said.stdout, /--writable/);
});

t.test('an agent that cannot run says why: its state is damaged, its control socket is busy', async (t) => {
  const directory = await temporary(t);
  const place = (name: string): string => path.join(directory, name);
  await writeFile(place('volume.img'), Buffer.alloc(1 << 20));
  await writeFile(
    place('agent.toml'),
    `receiver = "127.0.0.1:9"\nstate_dir = "${directory}"\nrun_dir = "${directory}"\n` +
      `[[group]]\nname = "db"\nring_bytes = "8MiB"\n` +
      `[[group.volume]]\nname = "data"\nbacking = "${place('volume.img')}"\nattach = "socket"\n`,
  );
  const refused = async (): Promise<unknown> => {
    const { said, ended } = start(directory, ['agent', 'run', '--config', place('agent.toml'), '--json']);
    const [status] = await ended;
    const { error } = JSON.parse(said.stderr.trimEnd().split('\n').at(-1) ?? '') as { error: object };
    return { status, ...error };
  };
  await writeFile(place('db.json'), '{"version":1}');
  t.match(await refused(), { status: 3, code: 'STATE_INVALID', message: /db\.json/, hint: /^Keep a copy/ });

  await rm(place('db.json'));
  const other = net.createServer().listen(place('agent.sock'));
  await once(other, 'listening');
  t.teardown(() => other.close());
  t.match(await refused(), { status: 7, code: 'LISTEN_BUSY', message: /agent\.sock/ });
});
