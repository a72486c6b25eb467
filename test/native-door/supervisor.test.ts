/** The bundled supervisor, with a program below it that dies, comes back, and finds what it left. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { supervisorPath } from '../../native/index.js';

const PROGRAM = fileURLToPath(new URL('supervised_program.js', import.meta.url));

/** Of the sixth life: everything is let go of. */
const END = ['6=forget=test/life', '6=barrier', '6=exit=0'];

/** The program under the supervisor, with its words. */
function supervise(t: Test, ...words: string[]) {
  const child = spawn(supervisorPath, [process.execPath, PROGRAM, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let told = '';
  child.stdout.on('data', (text: Buffer) => (told += text.toString()));
  child.stderr.on('data', (text: Buffer) => (told += text.toString()));
  t.teardown(() => {
    const [program] = programsOf(child.pid ?? 0);
    child.kill('SIGKILL');
    if (program !== undefined) process.kill(program, 'SIGKILL');
  });
  return {
    pid: child.pid ?? 0,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** Waits until the program said it. */
    async heard(text: string): Promise<void> {
      while (!told.includes(text)) await sleep(10);
    },
    async end(): Promise<{ status: number | null; told: string }> {
      const [status] = (await once(child, 'close')) as [number | null];
      return { status, told };
    },
  };
}

function programsOf(supervisor: number): number[] {
  try {
    const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8').trim();
    return children === '' ? [] : children.split(' ').map(Number);
  } catch {
    return []; // it has ended
  }
}

t.test('a killed program comes back, and finds what it gave away', async (t) => {
  const { status, told } = await supervise(
    t,
    '1=count',
    '1=keep=shop/ring',
    '1=ready',
    '1=barrier',
    '1=die',
    '2=read=shop/ring',
    '2=flags',
    '2=forget=shop/ring',
    '2=forget=test/life',
    '2=barrier',
    '2=exit=0',
  ).end();
  t.match(told, '1 inherits \n');
  t.match(told, '2 inherits test/life shop/ring\n2 1\n2 closed on exec\n');
  t.equal(status, 0, 'it has let go of everything: its end is the end');
});

t.test('it comes back as long as something is kept, ready or not, whatever its status', async (t) => {
  const { status, told } = await supervise(
    t,
    ...['1=count', '1=barrier', '1=exit=0'],
    ...['2=count', '2=barrier', '2=exit=9'],
    ...['3=forget=test/life', '3=barrier', '3=exit=4'],
  ).end();
  t.match(told, 'ended with status 0; 1 descriptors wait');
  t.match(told, 'ended with status 9; 1 descriptors wait');
  t.equal(status, 4);
});

// Symptom: an agent whose state directory failed was never ready, served all the same, and its successors began ever later:
// production waited up to a second longer at each death.
t.test('who lived for long comes back at once, ready or not', async (t) => {
  const lives = [1, 2, 3, 4, 5];
  const living = lives.flatMap((life) => [`${life}=count`, `${life}=barrier`, `${life}=sleep=1000`]);
  const long = supervise(t, ...living, ...lives.map((life) => `${life}=die`), ...END);
  const { told, status } = await long.end();
  t.equal(status, 0);
  t.equal(told.match(/ended with signal 9/g)?.length, lives.length);
  t.notMatch(told, /which starts in/);
});
t.test('a program that cannot start ends the supervisor with its status', async (t) => {
  t.equal((await supervise(t, '1=exit=3').end()).status, 3);
  t.equal((await supervise(t, '1=die').end()).status, 128 + 9);
  const missing = spawn(supervisorPath, ['/nowhere/program'], { stdio: 'ignore' });
  t.same(await once(missing, 'close'), [127, null]);
});

t.test('a program that was ready and crashes with nothing kept is started again', async (t) => {
  const supervised = supervise(t, '1=ready', '1=barrier', '1=say=up', '1=sleep=60000');
  await supervised.heard('1 up');
  const [first] = programsOf(supervised.pid);
  process.kill(first ?? 0, 'SIGKILL');
  let second = programsOf(supervised.pid)[0];
  while (second === undefined || second === first) {
    await sleep(10);
    second = programsOf(supervised.pid)[0];
  }
  await sleep(200);
  supervised.kill('SIGTERM');
  const { told } = await supervised.end();
  t.match(told, 'ended with signal 9; 0 descriptors wait');
});

t.test('a signal that is to stop it reaches the program', async (t) => {
  const supervised = supervise(t, '1=count', '1=ready', '1=barrier', '1=say=up', '1=sleep=60000');
  await supervised.heard('1 up');
  supervised.kill('SIGTERM');
  const { status, told } = await supervised.end();
  t.match(told, '1 SIGTERM');
  t.equal(status, 5);
});

// Before it is ready it might die of the signal, and what it keeps would bring it back as if nobody had asked.
t.test('a stop that comes while a successor starts is told to it when it is ready', async (t) => {
  const supervised = supervise(
    t,
    ...['1=count', '1=ready', '1=barrier', '1=die'],
    ...['2=say=starting', '2=sleep=700', '2=say=ready', '2=ready', '2=sleep=60000'],
  );
  await supervised.heard('2 starting');
  supervised.kill('SIGTERM');
  const { status, told } = await supervised.end();
  t.match(told, '2 ready\n2 SIGTERM');
  t.equal(status, 5);
});

// Symptom: an agent that only served, or tried again a configuration with a mistake, was never ready; so nothing stopped it but
// SIGKILL, which took the descriptors of its production.
t.test('a program that is never ready hears a stop when it has lived for a while', async (t) => {
  for (const pause of [0, 4_000]) {
    const supervised = supervise(t, '1=count', '1=barrier', '1=say=up', '1=sleep=60000');
    await supervised.heard('1 up');
    await sleep(pause);
    supervised.kill('SIGTERM');
    const { status, told } = await supervised.end();
    t.match(told, '1 SIGTERM');
    t.equal(status, 5);
  }
});

t.test('a program that dies while it stops is told again', async (t) => {
  const supervised = supervise(
    t,
    ...['1=count', '1=ready', '1=barrier', '1=ignore', '1=say=up', '1=sleep=300', '1=die'],
    ...['2=ready', '2=sleep=60000'],
  );
  await supervised.heard('1 up');
  supervised.kill('SIGTERM');
  const { status, told } = await supervised.end();
  t.match(told, 'ended with signal 9');
  t.match(told, '2 SIGTERM');
  t.equal(status, 5);
});

// Symptom: an agent whose state directory hangs, and that gave up as it was told to, was started again.
t.test('a program that gives up what it keeps has to be told twice', async (t) => {
  for (const times of [1, 2]) {
    const supervised = supervise(
      t,
      ...[
        '1=count',
        '1=keep=shop/ring',
        '1=ready',
        '1=barrier',
        '1=ignore',
        '1=say=up',
        '1=sleep=300',
        '1=exit=0',
      ],
      ...['2=forget=shop/ring', '2=ready', '2=sleep=60000'],
    );
    await supervised.heard('1 up');
    for (let count = 0; count < times; count += 1) {
      supervised.kill('SIGTERM');
      await sleep(50);
    }
    const { status, told } = await supervised.end();
    t.equal(status, times === 1 ? 5 : 0);
    t.equal(told.includes('2 SIGTERM'), times === 1, 'else another one is told to end');
  }
});

t.test('what another process says counts for nothing', async (t) => {
  const supervised = supervise(t, '1=count', '1=ready', '1=barrier', '1=say=up', '1=sleep=60000');
  await supervised.heard('1 up');
  const [program] = programsOf(supervised.pid);
  const environment = readFileSync(`/proc/${program}/environ`, 'utf8').split('\0');
  const address = environment
    .find((one) => one.startsWith('NOTIFY_SOCKET=@'))
    ?.slice('NOTIFY_SOCKET=@'.length);
  t.ok(address);
  execFileSync('python3', [
    '-c',
    `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"FDSTOREREMOVE=1\\nFDNAME=test/life", "\\0" + sys.argv[1])`,
    address ?? '',
  ]);
  process.kill(program ?? 0, 'SIGKILL');
  await supervised.heard('2 inherits test/life');
  supervised.kill('SIGKILL');
  for (const left of programsOf(supervised.pid)) process.kill(left, 'SIGKILL');
});
