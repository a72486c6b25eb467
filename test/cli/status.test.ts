import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { renderStatus } from '../../cli/status_view.js';
import {
  agentStatus,
  cannedAgent,
  cannedReceiver,
  groupStatus,
  invoke,
  LSN,
  receiverStatus,
  Recorder,
  temporary,
} from './canned.js';

t.test('both daemons on one machine: each with its groups and volumes', async (t) => {
  const runDir = await temporary(t);
  await cannedAgent(t, runDir);
  await cannedReceiver(t, runDir);
  const { status, stdout } = await invoke(runDir, ['status']);
  t.equal(status, 0);
  t.equal(
    stdout,
    `agent 0.1.0 on host1, receiver 127.0.0.1:7443 connected, 90.0 MiB of memory
GROUP/VOLUME  STATE              RPO LAG             CAPTURED              SHIPPED              DURABLE  RING  THROUGHPUT  WRITTEN  DEVICE
db            protected           1.5 ms  ${LSN}  ${LSN - 10n}  ${LSN - 20n}  25 %  12.0 MiB/s  1.0 MiB
  data        initial-sync 25 %                                                                                            1.0 MiB  /dev/loop0

receiver 0.1.0 at 127.0.0.1:7443, store /var/lib/afterimage/store with 100.0 GiB free, 1 export
GROUP/VOLUME  HOST   STATE              RPO LAG              DURABLE    WINDOW  FROM                            JOURNAL  THROUGHPUT     SIZE
db            host1  protected           1.5 ms  ${LSN - 20n}  1 h 00 m  2026-01-31T09:15:00.123456789Z  5.0 GiB  12.0 MiB/s  1.0 GiB
  data               initial-sync 25 %                                                                                               1.0 GiB
`,
  );
});

t.test(
  'JSON: LSNs and nanoseconds whole as text, bytes and counts as numbers, absent daemons null',
  async (t) => {
    const runDir = await temporary(t);
    await cannedAgent(t, runDir);
    const { stdout } = await invoke(runDir, ['status', '--json']);
    t.equal(stdout.split('\n').length, 2, 'one line');
    // match() takes a number for its text.
    t.match(stdout, `"capturedLsn":"${LSN}"`);
    t.match(JSON.parse(stdout), {
      time: '2026-01-31T10:15:00.123Z',
      receiver: null,
      agent: {
        connected: true,
        rssBytes: 90 * 2 ** 20,
        groups: [
          {
            capturedLsn: `${LSN}`,
            rpoLagNs: '1500000',
            generation: '3',
            windowBegin: '2026-01-31T09:15:00.123456789Z',
            volumes: [{ size: 2 ** 30, writes: 256 }],
          },
        ],
      },
    });
  },
);

t.test(
  'the daemon behind --control, --config or the environment is asked alone, whichever it is',
  async (t) => {
    const runDir = await temporary(t);
    await cannedAgent(t, runDir);
    await cannedReceiver(t, runDir);
    const config = path.join(runDir, 'r.toml');
    // With groups, as an agent's has, but without volumes.
    await writeFile(config, `store = "/s"\nrun_dir = "${runDir}"\n[[group]]\nname = "db"\n`);
    const only = async (argv: string[], env: Record<string, string> = {}): Promise<string[]> => {
      const { stdout, stderr } = await invoke('/nowhere', ['status', '--json', ...argv], { env });
      t.equal(stderr, '');
      const answer = JSON.parse(stdout) as Record<string, unknown>;
      return ['agent', 'receiver'].filter((daemon) => answer[daemon] !== null);
    };
    t.same(await only(['--control', `${runDir}/agent.sock`]), ['agent']);
    t.same(await only(['--control', `${runDir}/receiver.sock`], { AFTERIMAGE_CONTROL: '/none' }), [
      'receiver',
    ]);
    t.same(await only(['--config', config], { AFTERIMAGE_CONTROL: '/none' }), ['receiver']);
    t.same(await only([], { AFTERIMAGE_CONTROL: `${runDir}/agent.sock`, AFTERIMAGE_CONFIG: config }), [
      'agent',
    ]);
    t.same(await only([], { AFTERIMAGE_CONFIG: config, AFTERIMAGE_RUN_DIR: '/none' }), ['receiver']);
    const missing = await invoke(runDir, ['status', '--config', `${runDir}/none.toml`]);
    t.equal(missing.status, 3);
    t.match(missing.stderr, /^error CONFIG_MISSING/);
  },
);

t.test('--watch redraws a terminal in place until it is interrupted, which is no failure', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir);
  const interrupt = new AbortController();
  const slept: number[] = [];
  const stdout = new Recorder(true);
  const { status, stderr } = await invoke(runDir, ['status', '--watch'], {
    stdout,
    env: { AFTERIMAGE_RUN_DIR: runDir, NO_COLOR: '1' },
    stop: { drain: interrupt.signal, end: interrupt.signal },
    sleep: (ms) => {
      if (slept.push(ms) === 3) interrupt.abort();
      return Promise.resolve();
    },
  });
  t.strictSame([status, stderr], [0, '']);
  t.same(slept, [1000, 1000, 1000]);
  t.equal(stdout.text.split('\x1b[H').length - 1, 3, 'three times from the top');
  t.equal(stdout.text.split('\x1b[2J').length - 1, 1, 'cleared once');
  t.notOk(stdout.text.includes('\x1b[1m'), 'NO_COLOR');
});

t.test('--watch --json goes on, one object a line, while the daemon is away', async (t) => {
  const runDir = await temporary(t);
  const interrupt = new AbortController();
  let refreshes = 0;
  const { status, stdout } = await invoke(runDir, ['status', '--watch', '--json'], {
    stop: { drain: interrupt.signal, end: interrupt.signal },
    sleep: async () => {
      refreshes += 1;
      if (refreshes === 1) await cannedReceiver(t, runDir);
      else interrupt.abort();
    },
  });
  t.equal(status, 0);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { receiver: unknown });
  t.match(lines, [
    { receiver: null, receiverError: { code: 'DAEMON_UNREACHABLE' } },
    { receiver: { listen: '127.0.0.1:7443' }, receiverError: null },
  ]);
});

const STUCK = new AfterimageError('DAEMON_TIMEOUT', 'receiver.sock did not answer in time');
const FORBIDDEN = new AfterimageError('PERMISSION_DENIED', 'agent.sock may not be used by this user');

t.test('a daemon that is stuck or forbidden does not hide the other one', async (t) => {
  const runDir = await temporary(t);
  await cannedAgent(t, runDir);
  await cannedReceiver(t, runDir, { failure: STUCK });
  const { status, stdout, stderr } = await invoke(runDir, ['status']);
  t.equal(status, 6);
  t.match(stdout, /^agent 0\.1\.0 on host1.*\ndb +protected/s);
  t.equal(stderr, `error DAEMON_TIMEOUT: ${STUCK.message}\n  → ${STUCK.hint}\n`);
  const json = await invoke(runDir, ['status', '--json']);
  t.equal(json.status, 6);
  t.match(JSON.parse(json.stdout), {
    agent: { host: 'host1' },
    agentError: null,
    receiver: null,
    receiverError: { code: 'DAEMON_TIMEOUT', message: STUCK.message, hint: STUCK.hint },
  });
  t.match(JSON.parse(json.stderr), { error: { code: 'DAEMON_TIMEOUT' } });
});

t.test('two daemons that fail are both told of, and neither is asked in vain', async (t) => {
  const runDir = await temporary(t);
  await cannedAgent(t, runDir, { failure: FORBIDDEN });
  await cannedReceiver(t, runDir, { failure: STUCK });
  const { status, stdout, stderr } = await invoke(runDir, ['status']);
  t.strictSame([status, stdout], [4, '']);
  t.match(stderr, /error DAEMON_TIMEOUT.*error PERMISSION_DENIED/s);
  const interrupted = AbortSignal.abort();
  const ended = await invoke(runDir, ['status'], { stop: { drain: interrupted, end: interrupted } });
  t.strictSame([ended.status, ended.stderr.match(/error /g)?.length], [130, 1], 'Ctrl-C is told once');
});

t.test('--watch says why a daemon is not shown, in JSON too', async (t) => {
  const runDir = await temporary(t);
  await cannedAgent(t, runDir, { failure: FORBIDDEN });
  await cannedReceiver(t, runDir);
  const watched = async (argv: string[]): Promise<string> => {
    const interrupt = new AbortController();
    const { status, stdout } = await invoke(runDir, ['status', '--watch', ...argv], {
      stop: { drain: interrupt.signal, end: interrupt.signal },
      sleep: () => Promise.resolve(interrupt.abort()),
    });
    t.equal(status, 0);
    return stdout;
  };
  t.match(await watched([]), /^receiver 0\.1\.0 .*error PERMISSION_DENIED: agent\.sock may not.*→/s);
  t.match(JSON.parse(await watched(['--json'])), {
    agent: null,
    agentError: { code: 'PERMISSION_DENIED' },
    receiver: { listen: '127.0.0.1:7443' },
    receiverError: null,
  });
});

t.test('trouble is told: why a group is not protected, that the receiver is away', (t) => {
  const paint = (text: string): string => text;
  const group = groupStatus({
    state: 'tracking',
    detail: 'RING_FULL: a resync follows',
    windowBeginNs: 0n,
    windowEndNs: 0n,
  });
  const agent = { ...agentStatus, connected: false, groups: [group] };
  const text = renderStatus({ agent, receiver: { ...receiverStatus, groups: [group] } }, paint);
  t.match(text, /receiver 127\.0\.0\.1:7443 disconnected/);
  t.match(text, /\ndb: RING_FULL: a resync follows\n/);
  t.match(text, / none /);
  t.match(renderStatus({ agent: { ...agent, groups: [] }, receiver: null }, paint), /\nno groups\n$/);
  t.end();
});
