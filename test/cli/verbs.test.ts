import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { cannedAgent, cannedReceiver, invoke, LSN, noDaemons, temporary, TIME_NS } from './canned.js';

const TIME = '2026-01-31T10:15:00.123456789Z';
const SYNTHETIC = `${LSN}`;

const HELP: [argv: string[], mentions: string[]][] = [
  [[], ['status', 'timeline', 'checkpoint', 'export', 'recover', 'volume', 'agent', 'receiver']],
  [['volume'], ['insert', 'remove']],
  [
    ['volume', 'insert'],
    ['<subject>', '--json', '--config', '--control', 'Examples'],
  ],
  [
    ['volume', 'remove'],
    ['<subject>', '--yes', '--json', '--config', '--control', 'Examples'],
  ],
  [['status'], ['--watch', '--json', '--control', '--config', 'Examples']],
  [['timeline'], ['<group>', '--at', '--json', '--control', 'Examples']],
  [['checkpoint'], ['create', 'list', 'pin', 'unpin', 'delete']],
  [
    ['checkpoint', 'create'],
    ['<group>', '<name>', '--pin', '--json', 'Examples'],
  ],
  ...['pin', 'unpin', 'delete'].map((verb): [string[], string[]] => [
    ['checkpoint', verb],
    ['<group>', '<name>', '--json', 'Examples'],
  ]),
  [
    ['checkpoint', 'list'],
    ['[group]', '--json', 'Examples'],
  ],
  [
    ['export'],
    [
      '--at',
      '--writable',
      '--socket',
      '--tcp',
      '--device',
      '--volume',
      '--force',
      'list',
      'close',
      'Examples',
    ],
  ],
  [
    ['export', 'open'],
    ['--at', '--json', '--control'],
  ],
  [
    ['export', 'list'],
    ['--json', 'Examples'],
  ],
  [
    ['export', 'close'],
    ['<id>', '--json', 'Examples'],
  ],
  [['recover'], ['--at', '--to', '--yes', '--force', '--json', 'Examples']],
  [['agent'], ['run', 'configcheck', 'layouts']],
  [
    ['agent', 'layouts'],
    ['--json', 'Examples'],
  ],
  [
    ['agent', 'run'],
    ['--config', '--control', '--log-level', 'Examples'],
  ],
  [
    ['agent', 'configcheck'],
    ['--config', '--json', 'Examples'],
  ],
  [['receiver'], ['init', 'run', 'configcheck', 'fsck', 'scrub']],
  [
    ['receiver', 'init'],
    ['--store', '--config', '--json', 'Examples'],
  ],
  [
    ['receiver', 'run'],
    ['--config', '--control', '--log-level', 'Examples'],
  ],
  [
    ['receiver', 'scrub'],
    ['[group]', '--rate', '--control', '--config', '--json', 'Examples'],
  ],
  [
    ['receiver', 'fsck'],
    ['[store]', '--config', '--repair', '--yes', '--rate', '--json', 'Examples'],
  ],
  [
    ['receiver', 'configcheck'],
    ['--config', '--json', 'Examples'],
  ],
];

t.test('every verb explains itself on stdout and ends with 0', async (t) => {
  for (const [argv, mentions] of HELP) {
    const { status, stdout, stderr } = await invoke('/nowhere', [...argv, '--help']);
    t.strictSame([status, stderr], [0, ''], `afterimage ${argv.join(' ')} --help`);
    for (const mention of mentions) t.ok(stdout.includes(mention), `${argv.join(' ')}: ${mention}`);
  }
});

t.test('a command line that cannot be meant ends with 2, on stderr', async (t) => {
  const lines: [argv: string[], message: RegExp][] = [
    [[], /a verb is missing/],
    [['stauts'], /unknown command 'stauts'.*Did you mean status/s],
    [['status', '--jsno'], /unknown option '--jsno'/],
    [['status', 'db'], /too many arguments/],
    [['timeline'], /missing required argument 'group'/],
    [['timeline', '-x'], /unknown option/],
    [['timeline', '../etc'], /letters, digits/],
    [['checkpoint', 'create', 'db', 'a b'], /"a b" is not a name/],
    [['export', 'db'], /required option '--at/],
    [['export', 'db', '--at', 'latest', '--device', '--tcp', '127.0.0.1:1'], /cannot be used with/],
    [['export', 'db', '--at', 'latest', '--tcp', 'somewhere'], /Expected an address/],
    [['recover', 'a/b/c', '--at', 'latest', '--to', 'x'], /GROUP\/VOLUME/],
    [['agent', 'run', '--log-level', 'loud'], /Allowed choices/],
    [['receiver', 'fsck', '--rate', 'fast'], /Expected a size/],
  ];
  for (const [argv, message] of lines) {
    const { status, stdout, stderr } = await invoke('/nowhere', argv);
    t.strictSame([status, stdout], [2, ''], `afterimage ${argv.join(' ')}`);
    t.match(stderr, message);
    t.match(stderr, /^error (USAGE|CHECKPOINT_INVALID): .*\n {2}→ /m);
  }
});

t.test('an address that others could reach is refused before anybody is asked', async (t) => {
  const { status, stderr } = await invoke('/nowhere', [
    'export',
    'db',
    '--at',
    'latest',
    '--tcp',
    '0.0.0.0:10809',
  ]);
  t.equal(status, 3);
  t.match(stderr, /^error ADDRESS_NOT_LOOPBACK: 0\.0\.0\.0:10809/);
});

t.test('without a daemon: what was tried, and 6', async (t) => {
  const runDir = await temporary(t);
  for (const argv of [
    ['status'],
    ['timeline', 'db'],
    ['checkpoint', 'create', 'db', 'x'],
    ['export', 'list'],
  ]) {
    const { status, stderr } = await invoke(runDir, argv);
    t.equal(status, 6, argv.join(' '));
    t.match(stderr, `error DAEMON_UNREACHABLE: `);
    t.match(stderr, `${runDir}/receiver.sock`);
  }
});

t.test("a daemon's refusal keeps its code, its hint and its exit status", async (t) => {
  const runDir = await temporary(t);
  const failure = new AfterimageError('POINT_GRADE', 'lsn:7 of db lies in a gap (RING_FULL)');
  await cannedReceiver(t, runDir, { failure });
  const argv = ['export', 'db', '--at', 'lsn:7'];
  const { status, stdout, stderr } = await invoke(runDir, argv);
  t.strictSame([status, stdout], [4, '']);
  t.equal(stderr, `error POINT_GRADE: ${failure.message}\n  → ${failure.hint}\n`);
  const json = await invoke(runDir, [...argv, '--json']);
  t.strictSame([json.status, json.stdout], [4, '']);
  t.same(JSON.parse(json.stderr), {
    error: { code: 'POINT_GRADE', message: failure.message, hint: failure.hint, retryable: false },
  });
});

t.test('an interrupted question ends with 130', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir);
  const drain = AbortSignal.abort();
  const { status, stderr } = await invoke(runDir, ['timeline', 'db'], { stop: { drain, end: drain } });
  t.equal(status, 130);
  t.match(stderr, /^error INTERRUPTED/);
});

t.test('Ctrl-C that crosses with the answer leaves no export that nobody knows of', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const stop = { drain: AbortSignal.abort(), end: new AbortController().signal };
  const { status, stdout, stderr } = await invoke(runDir, ['export', 'db', '--at', 'latest'], { stop });
  t.strictSame([status, stdout], [130, '']);
  t.match(stderr, /^error INTERRUPTED: export e1 was opened, and is closed again/);
  t.match(asked, [
    ['exportOpen', {}],
    ['exportClose', { id: 'e1' }],
  ]);
});

t.test('timeline: spans, then checkpoints, with times to paste into --at', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const { status, stdout } = await invoke(runDir, ['timeline', 'db']);
  t.equal(status, 0);
  t.same(asked, [['timeline', { group: 'db' }]]);
  t.equal(
    stdout,
    `GRADE    HOST   GENERATION  FIRST LSN             LAST LSN  FROM                            TO                              REASON
ordered  host1           2          1                   90  2026-01-31T10:15:00.123456739Z  2026-01-31T10:15:00.123456749Z
gap      host1           2          -                    -  2026-01-31T10:15:00.123456749Z  2026-01-31T10:15:00.123456789Z  RING_FULL
ordered  host1           3         91  ${SYNTHETIC}  2026-01-31T10:15:00.123456789Z  now

GROUP  CHECKPOINT                  LSN  TIME                            CONSISTENCY  GRADE    PINNED
db     noon        ${SYNTHETIC}  2026-01-31T10:15:00.123456789Z  crash        ordered
`,
  );
  const json = JSON.parse((await invoke(runDir, ['timeline', 'db', '--json'])).stdout) as unknown;
  t.match(json, {
    group: 'db',
    spans: [
      { grade: 'ordered', lastLsn: '90' },
      { grade: 'gap', reason: 'RING_FULL' },
      { lastLsn: SYNTHETIC, endNs: null, end: null, beginNs: `${TIME_NS}`, begin: TIME },
    ],
    checkpoints: [{ name: 'noon', lsn: SYNTHETIC, timeNs: `${TIME_NS}`, time: TIME }],
  });
});

t.test('timeline --at: the one point that is named', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const { stdout } = await invoke(runDir, ['timeline', 'db', '--at', '-90s']);
  t.equal(stdout, `db at lsn:${LSN}, ${TIME}: ordered\n`);
  const json = await invoke(runDir, ['timeline', 'db', '--at', 'latest', '--json']);
  t.match(JSON.parse(json.stdout), { lsn: SYNTHETIC, time: TIME, grade: 'ordered' });
  t.same(asked, [
    ['point', { group: 'db', point: '-90s' }],
    ['point', { group: 'db', point: 'latest' }],
  ]);
});

t.test('checkpoint create goes to the receiver, or to the agent where that is away', async (t) => {
  const both = await temporary(t);
  const receiver = await cannedReceiver(t, both);
  const agent = await cannedAgent(t, both);
  const { status, stdout } = await invoke(both, ['checkpoint', 'create', 'db', 'noon']);
  t.strictSame(
    [status, stdout],
    [0, `checkpoint noon of db: lsn:${LSN}, ${TIME}, crash-consistent, durable\n`],
  );
  t.same(receiver, [['checkpointCreate', { group: 'db', name: 'noon', pin: false, lockUntilNs: 0n }]]);
  t.same(agent, []);

  const alone = await temporary(t);
  const lonelyAgent = await cannedAgent(t, alone);
  const json = await invoke(alone, ['checkpoint', 'create', 'db', 'noon', '--json']);
  t.match(JSON.parse(json.stdout), { name: 'noon', lsn: SYNTHETIC });
  t.equal(lonelyAgent.length, 1);
  const named = await invoke('/nowhere', [
    'checkpoint',
    'create',
    'db',
    'x',
    '--control',
    `${alone}/agent.sock`,
  ]);
  t.equal(named.status, 0, 'an agent named by --control is recognized as one');
});

t.test(
  'checkpoint create asks the agent for a group that the receiver here has nothing to do with',
  async (t) => {
    // Two hosts that are each other's recovery site: a receiver that ran here hid the agent's groups.
    for (const code of ['GROUP_UNKNOWN', 'AGENT_AWAY'] as const) {
      const runDir = await temporary(t);
      const refusal = new AfterimageError(code, 'not here');
      const receiver = await cannedReceiver(t, runDir, { failure: refusal });
      const argv = ['checkpoint', 'create', 'db', 'noon'];
      const alone = await invoke(runDir, argv);
      t.match(alone.stderr, `error ${code}: not here`, 'without an agent the receiver has the last word');
      const agent = await cannedAgent(t, runDir);
      t.equal((await invoke(runDir, argv)).status, 0, code);
      t.strictSame([receiver.length, agent.length], [2, 1]);
      const named = await invoke(runDir, [...argv, '--control', `${runDir}/receiver.sock`]);
      t.match(named.stderr, `error ${code}`, 'a receiver that is named is asked alone');
    }
    const neither = await temporary(t);
    const unknown = new AfterimageError('GROUP_UNKNOWN', 'the receiver has no group db');
    await cannedReceiver(t, neither, { failure: unknown });
    await cannedAgent(t, neither, { failure: new AfterimageError('GROUP_UNKNOWN', 'this agent has no db') });
    const { status, stderr } = await invoke(neither, ['checkpoint', 'create', 'db', 'noon']);
    t.equal(status, 5);
    t.match(stderr, unknown.message);
    const full = await temporary(t);
    await cannedReceiver(t, full, { failure: new AfterimageError('CHECKPOINT_EXISTS', 'noon is taken') });
    const untouched = await cannedAgent(t, full);
    t.equal((await invoke(full, ['checkpoint', 'create', 'db', 'noon'])).status, 4);
    t.same(untouched, [], 'any other refusal stands');
  },
);

t.test('a verb that asks the wrong daemon says whose socket that is', async (t) => {
  // It said PROTOCOL_VERSION "bring agent, receiver and command to the same version".
  const runDir = await temporary(t);
  await cannedAgent(t, runDir, { socket: 'receiver.sock' });
  for (const argv of [
    ['timeline', 'db'],
    ['export', 'list'],
    ['recover', 'db', '--at', 'latest', '--to', 'x'],
  ]) {
    const { status, stderr } = await invoke(runDir, argv);
    t.equal(status, 2, argv.join(' '));
    t.match(
      stderr,
      `error DAEMON_MISMATCH: ${runDir}/receiver.sock is an agent's socket; this verb asks the receiver`,
    );
  }
});

t.test('what another machine says does not reach the terminal as it is, line by line', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir, {
    failure: new AfterimageError('POINT_UNKNOWN', 'first \x1b[2J\nsecond \x9b1m'),
  });
  const { stderr } = await invoke(runDir, ['timeline', 'db']);
  t.match(stderr, 'error POINT_UNKNOWN: first ?[2J\nsecond ?1m\n');
});

t.test('checkpoint list', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  t.match((await invoke(runDir, ['checkpoint', 'list'])).stdout, /^GROUP +CHECKPOINT +LSN/);
  t.match(JSON.parse((await invoke(runDir, ['checkpoint', 'list', 'db', '--json'])).stdout), {
    checkpoints: [{ name: 'noon' }],
  });
  t.same(asked, [
    ['checkpointList', { group: '' }],
    ['checkpointList', { group: 'db' }],
  ]);
});

t.test('checkpoint create --pin, pin, unpin, delete', async (t) => {
  const runDir = await temporary(t);
  const agent = await cannedAgent(t, runDir);
  await t.resolveMatch(invoke(runDir, ['checkpoint', 'create', 'db', 'noon', '--pin']), {
    status: 6,
    stderr: /DAEMON_UNREACHABLE/,
  });
  t.same(agent, [], 'an agent cannot pin: it is not asked');
  const asked = await cannedReceiver(t, runDir);
  const said = async (verb: string, ...more: string[]): Promise<string> =>
    (await invoke(runDir, ['checkpoint', verb, 'db', 'noon', ...more])).stdout;
  await said('create', '--pin');
  t.match(await said('pin'), /^checkpoint noon of db: .*, durable, pinned\n$/);
  t.match(JSON.parse(await said('unpin', '--json')), { name: 'noon', pinned: true, lockedUntil: null });
  t.equal(await said('delete'), 'checkpoint noon of db is forgotten\n');
  t.same(JSON.parse(await said('delete', '--json')), { group: 'db', name: 'noon', deleted: true });
  t.same(asked, [
    ['checkpointCreate', { group: 'db', name: 'noon', pin: true, lockUntilNs: 0n }],
    ['checkpointPin', { group: 'db', name: 'noon', pinned: true, lockUntilNs: 0n }],
    // What would go with it.
    ['checkpointList', { group: 'db' }],
    ['checkpointPin', { group: 'db', name: 'noon', pinned: false, lockUntilNs: 0n }],
    ['checkpointDelete', { group: 'db', name: 'noon' }],
    ['checkpointDelete', { group: 'db', name: 'noon' }],
  ]);
});

// A year that was typed wrong would have filled the store until then.
t.test('a lock is asked about before nobody can lift it', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const locks = (): unknown[] => asked.filter(([call]) => call !== 'status');
  const lock = (...more: string[]): string[] => [
    'checkpoint',
    'pin',
    'db',
    'noon',
    '--until',
    '30d',
    ...more,
  ];
  const create = ['checkpoint', 'create', 'db', 'noon', '--pin', '--until', '30d'];
  const consequence =
    /no role lifts the lock of noon before 2026-03-02T\S+: all history of db behind it stays/;
  for (const argv of [lock(), create]) {
    t.match(await invoke(runDir, argv), { status: 2, stderr: consequence });
    const questions: string[] = [];
    const ask = (answer: boolean) => ({
      ask: (question: string) => Promise.resolve(questions.push(question) > 0 && answer),
    });
    t.match(await invoke(runDir, argv, ask(false)), { stderr: /INTERRUPTED: .*not locked/ });
    t.same(locks(), [], 'nothing was done');
    t.equal((await invoke(runDir, argv, ask(true))).status, 0);
    t.match(questions, [consequence, consequence]);
    t.equal((await invoke(runDir, [...argv, '--yes'])).status, 0);
    const lockUntilNs = (TIME_NS / 1_000_000n) * 1_000_000n + 30n * 86_400_000_000_000n;
    t.match(asked.splice(0), [
      /./,
      /./,
      /./,
      [/checkpoint/, { lockUntilNs }],
      [/checkpoint/, { lockUntilNs }],
    ]);
  }
});

t.test('export: options reach the receiver, its answer says where to open it', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const { stdout } = await invoke(runDir, ['export', 'db', '--at', '-90s']);
  t.equal(
    stdout,
    `export e1 of db at lsn:${LSN}, ${TIME} (ordered, read-only), open after 12 ms
VOLUME       SIZE  OPEN IT AT
data      1.0 GiB  nbd+unix:///data?socket=/run/x.sock
log     512.0 MiB  /dev/loop4
`,
  );
  const all = ['--writable', '--socket', 'x.sock', '--volume', 'data', 'log', '--force', '--json'];
  t.match(JSON.parse((await invoke(runDir, ['export', 'db', '--at', 'latest', ...all])).stdout), {
    id: 'e1',
    lsn: SYNTHETIC,
    openedInUs: 12300,
    volumes: [{ size: 2 ** 30 }, { device: '/dev/loop4' }],
  });
  await invoke(runDir, ['export', 'open', 'list', '--at', 'lsn:5', '--tcp', '[::1]:0']);
  const plain = { writable: false, socket: '', tcp: '', device: false, volumes: [], force: false };
  t.same(asked, [
    ['exportOpen', { ...plain, group: 'db', point: '-90s' }],
    [
      'exportOpen',
      {
        ...plain,
        group: 'db',
        point: 'latest',
        writable: true,
        socket: `${runDir}/x.sock`,
        volumes: ['data', 'log'],
        force: true,
      },
    ],
    ['exportOpen', { ...plain, group: 'list', point: 'lsn:5', tcp: '[::1]:0' }],
  ]);
});

t.test('export list and close', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir);
  const { stdout } = await invoke(runDir, ['export', 'list']);
  t.match(
    stdout,
    /^ID +GROUP +LSN.*\ne1 +db .* ordered +read-only +data .*\n +log +512\.0 MiB +\/dev\/loop4\n$/,
  );
  t.match(JSON.parse((await invoke(runDir, ['export', 'list', '--json'])).stdout), {
    exports: [{ id: 'e1' }],
  });
  t.equal((await invoke(runDir, ['export', 'close', 'e1'])).stdout, 'export e1 is closed\n');
  t.same(JSON.parse((await invoke(runDir, ['export', 'close', 'e1', '--json'])).stdout), {
    id: 'e1',
    closed: true,
  });
  t.same(asked.at(-1), ['exportClose', { id: 'e1' }]);
});

t.test('the daemons: configuration by flag, environment or place, and what overrides it', async (t) => {
  const runs: unknown[] = [];
  const daemons = {
    ...noDaemons,
    runAgent: (config: string, overrides: unknown) => Promise.resolve(void runs.push([config, overrides])),
    initReceiver: (store: string) => {
      runs.push(store);
      return Promise.resolve({ fingerprint: 'AB:CD' });
    },
    storeOf: (config: string) => Promise.resolve(`store of ${config}`),
    checkAgent: (config: string) =>
      Promise.reject(new AfterimageError('CONFIG_INVALID', `${config}:3: x is not a setting`)),
    checkReceiver: () => Promise.resolve({ control: '/run/r.sock', text: 'store /s' }),
  };
  const cwd = '/home/op';
  const env = { AFTERIMAGE_CONFIG: 'env.toml', AFTERIMAGE_LOG_LEVEL: 'debug', AFTERIMAGE_CONTROL: '/c.sock' };
  await invoke('', ['agent', 'run'], { daemons, cwd, env: {} });
  await invoke('', ['agent', 'run'], { daemons, cwd, env });
  await invoke('', ['agent', 'run', '--config', '/f.toml', '--log-level', 'warn', '--control', 'x'], {
    daemons,
    cwd,
    env,
  });
  await invoke('', ['receiver', 'init', '--store', 'store'], { daemons, cwd, env });
  await invoke('', ['receiver', 'init'], { daemons, cwd, env });
  t.same(runs, [
    ['/etc/afterimage/agent.toml', { control: null, logLevel: null }],
    ['/home/op/env.toml', { control: '/c.sock', logLevel: 'debug' }],
    ['/f.toml', { control: '/home/op/x', logLevel: 'warn' }],
    '/home/op/store',
    'store of /home/op/env.toml',
  ]);
  const loud = await invoke('', ['agent', 'run'], { daemons, cwd, env: { AFTERIMAGE_LOG_LEVEL: 'loud' } });
  t.equal(loud.status, 2);
  const bad = await invoke('', ['agent', 'configcheck'], { daemons, cwd, env });
  t.strictSame([bad.status, bad.stdout], [3, '']);
  t.match(bad.stderr, /^error CONFIG_INVALID: \/home\/op\/env\.toml:3: x is not a setting/);
  const good = await invoke('', ['receiver', 'configcheck'], { daemons, cwd, env });
  t.strictSame([good.status, good.stdout], [0, '/home/op/env.toml is valid: store /s\n']);
  const json = await invoke('', ['receiver', 'configcheck', '--json'], { daemons, cwd, env });
  t.same(JSON.parse(json.stdout), { config: '/home/op/env.toml', valid: true, control: '/run/r.sock' });
});

t.test('a store is not begun after Ctrl-C', async (t) => {
  const drain = AbortSignal.abort();
  const { status, stdout, stderr } = await invoke('/nowhere', ['receiver', 'init', '--store', '/srv/s'], {
    stop: { drain, end: drain },
  });
  t.strictSame([status, stdout], [130, '']);
  t.match(stderr, 'error INTERRUPTED: no store was made in /srv/s');
});

t.test('a defect is reported with its stack', async (t) => {
  const daemons = { ...noDaemons, runAgent: () => Promise.reject(new TypeError('x is undefined')) };
  const { status, stderr } = await invoke('/nowhere', ['agent', 'run'], { daemons });
  t.equal(status, 1);
  t.match(stderr, /TypeError: x is undefined\n +at .*error INTERNAL: x is undefined/s);
  const json = await invoke('/nowhere', ['agent', 'run', '--json'], { daemons });
  t.match(JSON.parse(json.stderr), {
    error: { code: 'INTERNAL', stack: /TypeError: x is undefined\n +at / },
  });
});
