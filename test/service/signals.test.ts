import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';

const CHILD = `
  import { stopSignals } from ${JSON.stringify(new URL('../../service/signals.js', import.meta.url).href)};
  const stop = stopSignals();
  const alive = setInterval(() => {}, 1000);
  stop.drain.addEventListener('abort', () => console.log('drain', stop.drain.reason.code, stop.drain.reason.message, stop.end.aborted));
  stop.end.addEventListener('abort', () => { console.log('end', stop.end.reason.message); stop.dispose(); clearInterval(alive); });
  console.log('ready');
`;

function child() {
  const started = spawn(process.execPath, ['--input-type=module', '-e', CHILD], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  started.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const says = async (expected: string): Promise<void> => {
    while (!text.includes(expected)) await once(started.stdout, 'data');
  };
  return { started, says };
}

t.test('the first signal drains, the second ends', async (t) => {
  const { started, says } = child();
  t.teardown(() => started.kill('SIGKILL'));
  await says('ready\n');
  started.kill('SIGTERM');
  await says('drain INTERRUPTED SIGTERM false\n');
  started.kill('SIGINT');
  await says('end SIGINT\n');
  const [code, signal] = (await once(started, 'exit')) as [number | null, string | null];
  t.same([code, signal], [0, null], 'the process ended by itself');
});

t.test('a terminal that closes drains too', async (t) => {
  const { started, says } = child();
  t.teardown(() => started.kill('SIGKILL'));
  await says('ready\n');
  started.kill('SIGHUP');
  await says('drain INTERRUPTED SIGHUP false\n');
});
