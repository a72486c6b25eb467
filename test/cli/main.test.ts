/** The program itself, as a shell starts it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
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
  t.match(said.stderr, /error INTERRUPTED: .* it can be resumed/);
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
