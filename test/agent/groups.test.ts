/** Several groups on one host, of which some cannot start. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock, type Clock } from '../../agent/clock.js';
import type { GroupConfig, VolumeConfig } from '../../agent/config.js';
import { AgentControl, type StatusHead } from '../../agent/control.js';
import type { UsedVolume } from '../../agent/device_use.js';
import { failedStatus } from '../../agent/group_status.js';
import { ProtectionGroups, type StartedGroup } from '../../agent/groups.js';
import { agentControlService } from '../../proto/control.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';
import { RpcClient } from '../../service/rpc.js';
import { AuditLog } from '../../service/audit_log.js';
import { RunningAgent, scratchDirectory, socketVolume, testLog } from './running_agent.js';

const configs = ['shop', 'mail'].map((name): GroupConfig => ({
  name,
  ringBytes: 8n << 20n,
  lingerUs: 1000,
  unmarkAfterMs: 60_000,
  spool: null,
  resyncRateMax: null,
  volumes: [
    {
      ...{ name: 'data', backing: `/dev/mapper/${name}-afterimage`, cache: 'buffered' },
      mapped: name === 'shop' ? '/dev/mapper/shop' : null,
      attach: { kind: 'nbd' },
    },
  ],
}));

class CannedGroup implements StartedGroup {
  readonly isConnected = true;
  private isClosed = false;
  private readonly ended: Promise<void>;
  stopped!: () => void;
  constructor(readonly config: GroupConfig) {
    this.has = config.volumes;
    this.ended = new Promise((resolve) => (this.stopped = resolve));
  }
  latencies(): [] {
    return [];
  }
  activities(): [] {
    return [];
  }
  uses = () => Promise.resolve([]);
  status() {
    if (this.isClosed) throw new Error('the capture group is closed');
    return { ...failedStatus(this.config, 'h', new AfterimageError('CLOSED', ''), []), state: 'protected' };
  }
  createCheckpoint = (name: string) => Promise.resolve({ name } as never);
  ensured = 0;
  ensureServed = () => {
    this.ensured += 1;
    return Promise.resolve();
  };
  /** Its backings are given back at once, and it ends when the test says so. */
  release = () => Promise.resolve();
  verify = () => Promise.resolve([]) as never;
  readonly shapes: string[][] = [];
  private has: VolumeConfig[];
  reshape = (volumes: readonly VolumeConfig[]) => {
    const names = volumes.map(({ name }) => name);
    if (names.includes('broken')) return Promise.reject(new AfterimageError('BACKING_MISSING', 'it is away'));
    this.shapes.push(names);
    const had = this.has.map(({ name }) => name);
    const added = names.filter((name) => !had.includes(name));
    const leaving = had.filter((name) => !names.includes(name));
    this.has = volumes.map((one) => this.has.find(({ name }) => name === one.name) ?? one);
    return Promise.resolve({ added, leaving, volumes: this.has });
  };
  async stop(): Promise<boolean> {
    await this.ended;
    this.isClosed = true;
    return false;
  }
}

/** Groups of which those named in `broken` do not start, on a clock whose pauses end when the test says so. */
function scene(...broken: string[]) {
  const lines: { level: string; msg: string; group?: string }[] = [];
  const pauses: { ms: number; end: () => void }[] = [];
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        pauses.push({ ms, end: resolve });
        signal.addEventListener('abort', () => reject(new Error('aborted')));
      }),
  };
  const write = (line: string): void => void lines.push(JSON.parse(line) as (typeof lines)[number]);
  const [drain, end] = [new AbortController(), new AbortController()];
  const made = new Map<string, CannedGroup>();
  const unstartable = new Set(broken);
  const uninserted = new Set<string>();
  /** Of groups whose start waits for the test. */
  const held = new Map<string, Promise<void>>();
  const taken = new Map<string, UsedVolume[]>();
  const groups = new ProtectionGroups(
    configs,
    async (config) => {
      await held.get(config.name);
      if (uninserted.has(config.name)) throw new AfterimageError('VOLUME_NOT_INSERTED', config.name);
      if (unstartable.has(config.name))
        throw new AfterimageError('BACKING_MISSING', `${config.name} is away`);
      const group = new CannedGroup(config);
      made.set(config.name, group);
      return group;
    },
    {
      ...{ host: 'h', clock, log: createLog('agent', 'info', { write }), isServing: false },
      ...{ drain: drain.signal, end: end.signal, taken: (group: string) => taken.get(group) ?? [] },
    },
  );
  const states = (): string[][] => groups.status().map(({ name, state }) => [name, state]);
  return { groups, lines, pauses, drain, end, made, held, taken, unstartable, uninserted, states };
}

async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise(setImmediate);
}

t.test('a group that cannot start takes no other down, shows why, and is tried again', async (t) => {
  const here = scene('shop');
  await here.groups.start();
  t.strictSame(here.states(), [
    ['shop', 'failed'],
    ['mail', 'protected'],
  ]);
  t.match(here.groups.status()[0]?.detail, /^BACKING_MISSING: shop is away\. \w/);
  t.match(here.lines[0], { level: 'error', group: 'shop' });
  await t.rejects(here.groups.createCheckpoint('shop', 'now'), { code: 'BACKING_MISSING' });
  await t.rejects(here.groups.createCheckpoint('none', 'now'), { code: 'GROUP_UNKNOWN' });
  for (let count = 1; count <= 6; count += 1) {
    await until(() => here.pauses.length === count);
    if (count === 6) here.unstartable.clear();
    here.pauses[count - 1]?.end();
  }
  await until(() => here.states()[0]?.[1] === 'protected');
  t.strictSame(
    here.pauses.map(({ ms }) => ms),
    [5_000, 10_000, 20_000, 40_000, 60_000, 60_000],
  );
});

function volumeOf({ volumes }: GroupConfig): VolumeConfig {
  const [volume] = volumes;
  if (volume === undefined) throw new Error('it has a volume');
  return volume;
}

/** What a predecessor had served; `device` "": it is not served again yet, and whoever has it waits. */
function left(name: string, device: string): UsedVolume {
  const data = volumeOf(two()[1]);
  const presentUse = () =>
    device === ''
      ? Promise.reject(new AfterimageError('BACKING_FAILED', 'no answer'))
      : Promise.resolve(null);
  return { config: { ...data, name }, attachedAs: device, presentUse };
}

// Who was woken by it took production for down, and looked for a device that status did not name.
t.test('a group that cannot start says whether production is served all the same', async (t) => {
  const here = scene('mail');
  await here.groups.start();
  const mail = () => here.groups.status()[1];
  t.match(mail(), { state: 'failed', detail: /^BACKING_MISSING: mail is away\. \w/ });
  here.taken.set('mail', [left('data', '/dev/loop7')]);
  t.match(mail(), {
    state: 'failed',
    detail: /^production is served, and not protected: BACKING_MISSING: mail is away\. \w/,
    volumes: [{ name: 'data', state: 'tracking', device: '/dev/loop7' }],
  });
  here.taken.set('mail', [left('data', ''), left('forgotten', '/dev/loop8')]);
  t.match(mail(), {
    detail: /^of its volumes only forgotten are served, and none is protected: BACKING_MISSING/,
    volumes: [
      { name: 'data', state: 'failed', device: '' },
      { name: 'forgotten', state: 'tracking', device: '/dev/loop8' },
    ],
  });
  here.taken.set('mail', [left('data', '')]);
  t.match(mail()?.detail, /^BACKING_MISSING/);
});

// The package was removed under it: who uses it was asked of the groups that had started alone.
t.test(
  'what a predecessor served is in use, as far as anybody knows, though its group cannot start',
  async (t) => {
    const here = scene('mail');
    here.taken.set('mail', [left('data', '/dev/loop7'), left('log', '')]);
    await here.groups.start();
    t.strictSame(await here.groups.uses(), [
      { group: 'mail', volume: 'data', device: '/dev/loop7', usedBy: '' },
      { group: 'mail', volume: 'log', device: '', usedBy: 'no answer' },
    ]);
    // Nor is it forgotten when the configuration is.
    t.match(await here.groups.reload([two()[0]]), { held: ['mail'], removed: [] });
    t.equal((await here.groups.uses()).length, 2);
    here.taken.clear();
    t.strictSame(await here.groups.uses(), [], 'no predecessor had it');
    t.match(await here.groups.reload([two()[0]]), { held: [], removed: ['mail'] });
  },
);

t.test('whoever may use a device of a group that has not started', async (t) => {
  const here = scene('shop', 'web');
  const data = volumeOf(two()[0]);
  let begin = (): void => undefined;
  here.held.set('mail', new Promise((resolve) => (begin = resolve)));
  const started = here.groups.start();
  await until(() => here.lines.length > 0);
  t.match(await here.groups.uses(), [
    { group: 'shop', usedBy: '' }, // a mapped volume, which is not there
    { group: 'mail', usedBy: 'the group is being started' },
  ]);
  begin();
  await started;
  await here.groups.reload([
    ...two(),
    { ...two()[0], name: 'web', volumes: [{ ...data, mapped: '/dev/null' }] },
  ]);
  t.match(
    await here.groups.uses(),
    [{ group: 'shop' }, { group: 'web', usedBy: 'web is away' }],
    'its I/O may wait',
  );
});

t.test('a group whose volumes are not inserted is waited for, and not tried again and again', async (t) => {
  const here = scene('mail');
  here.uninserted.add('shop');
  await here.groups.start();
  t.match(here.groups.status()[0], { state: 'failed', detail: /^VOLUME_NOT_INSERTED/ });
  await until(() => here.pauses.length === 1);
  await t.rejects(here.groups.insert('shop'), { code: 'VOLUME_NOT_INSERTED' }, 'they are not');
  here.uninserted.delete('shop');
  t.match(await here.groups.insert('shop'), { name: 'shop', state: 'protected' });
  const shop = here.made.get('shop');
  await here.groups.insert('shop');
  t.equal(shop?.ensured, 1, 'what is served is made sure of');
  t.equal(here.pauses.length, 1, 'only the other group was waited for');

  here.uninserted.add('shop');
  await here.groups.release('shop');
  await here.groups.release('shop');
  t.equal(here.states()[0]?.[1], 'protected', 'what was captured is still sent');
  const inserted = here.groups.insert('shop');
  shop?.stopped();
  await t.rejects(inserted, { code: 'VOLUME_NOT_INSERTED' }, 'the next one begins when that is over');
  t.match(here.groups.status()[0], { state: 'failed', detail: /^VOLUME_NOT_INSERTED/ });
  await t.rejects(here.groups.insert('mail'), { code: 'VOLUME_NOT_MAPPED' });
  await t.rejects(here.groups.release('none'), { code: 'GROUP_UNKNOWN' });
  here.drain.abort();
  await t.rejects(here.groups.insert('shop'), { code: 'INTERRUPTED' });
  await here.groups.stop();
});

t.test('a group that fails while it is inserted is tried again, until it is not any more', async (t) => {
  const here = scene('shop');
  await here.groups.start();
  await until(() => here.pauses.length === 1);
  await t.rejects(here.groups.insert('shop'), { code: 'BACKING_MISSING' });
  await until(() => here.pauses.length === 2);
  await here.groups.release('shop');
  t.match(here.groups.status()[0], { state: 'failed', detail: /^VOLUME_NOT_INSERTED/ });
  here.pauses[1]?.end();
  await new Promise(setImmediate);
  t.equal(here.pauses.length, 2, 'nobody tries any more');
  here.made.get('mail')?.stopped();
  await here.groups.stop();
});

t.test('when no group starts, neither does the agent', async (t) => {
  const here = scene('shop', 'mail');
  await t.rejects(here.groups.start(), { message: 'shop is away' });
  await t.rejects(here.groups.ready, { message: 'shop is away' });
  await here.groups.stop();
});

t.test('a group whose start takes long holds up no other, nor the end of the others', async (t) => {
  // A disk that did not answer under the first group: the second was not served, and a signal did nothing for anybody.
  const here = scene();
  let answer!: () => void;
  here.held.set('shop', new Promise((resolve) => (answer = resolve)));
  const started = here.groups.start();
  await until(() => here.states().length > 0);
  t.strictSame(here.states(), [['mail', 'protected']]);
  here.drain.abort();
  await started;
  await here.groups.ready;
  const stopped = here.groups.stop();
  here.made.get('mail')?.stopped();
  await until(() => here.states().length === 0);
  t.match(here.lines.at(-1), { group: 'mail', msg: /^stopped/ });
  answer();
  await until(() => here.made.has('shop'));
  here.made.get('shop')?.stopped();
  await stopped;
  t.match(here.lines.at(-1), { group: 'shop', msg: /^stopped/ }, 'what was started too late is stopped too');
});

// Symptom: what no disk answered could not be ended but by SIGKILL, and then the supervisor started the next one.
t.test('a group whose start never ends is given up at the second signal', async (t) => {
  const here = scene();
  let answer!: () => void;
  here.held.set('shop', new Promise((resolve) => (answer = resolve)));
  const started = here.groups.start();
  await until(() => here.states().length > 0);
  here.drain.abort();
  await started;
  const stopped = here.groups.stop();
  here.made.get('mail')?.stopped();
  await until(() => here.states().length === 0);
  here.end.abort();
  await stopped;
  t.notOk(here.made.has('shop'));
  answer();
  await until(() => here.made.has('shop'));
  t.strictSame(here.states(), [], 'nor is it there when it answers after all');
  here.made.get('shop')?.stopped();
  await until(() => here.states().length > 0);
  t.match(here.states(), [['shop', 'failed']]);
});

t.test('a group is told of when it fails, whatever the others are waiting for', async (t) => {
  const here = scene('mail');
  let answer!: () => void;
  here.held.set('shop', new Promise((resolve) => (answer = resolve)));
  const started = here.groups.start();
  await until(() => here.lines.length > 0 && here.pauses.length === 1);
  t.strictSame(here.states(), [['mail', 'failed']]);
  t.match(here.lines[0], { level: 'error', group: 'mail' });
  here.unstartable.clear();
  here.pauses[0]?.end();
  await until(() => here.states()[0]?.[1] === 'protected');
  answer();
  await started;
});

t.test('a group that has stopped is asked for nothing any more, though others still stop', async (t) => {
  // Its capture group is closed: the status answered INTERNAL until the last group had stopped.
  const here = scene();
  await here.groups.start();
  const stopped = here.groups.stop();
  here.made.get('shop')?.stopped();
  await until(() => here.lines.length > 0);
  await new Promise(setImmediate);
  t.strictSame(here.states(), [['mail', 'protected']]);
  t.match(here.lines[0], { level: 'warn', group: 'shop' }, 'an end that costs a comparison is a warning');
  here.made.get('mail')?.stopped();
  await stopped;
});

t.test('a stop ends the attempts', async (t) => {
  const here = scene('shop');
  await here.groups.start();
  const stopped = here.groups.stop();
  here.made.get('mail')?.stopped();
  await stopped;
  t.equal(here.pauses.length, 1);
});

async function ask(socket: string) {
  const client = await RpcClient.openControl(socket);
  try {
    return await client.callUnary(agentControlService.status, {}, { timeoutMs: 10_000 });
  } finally {
    client.close();
  }
}

t.test('an answer waits for the first attempts', async (t) => {
  const here = scene('shop');
  const head = (): StatusHead => ({ version: 'test', host: 'h', receiver: 'r' });
  const directory = scratchDirectory(t);
  const audit = new AuditLog(path.join(directory, 'audit.log'), testLog());
  const control = new AgentControl(head, here.groups, systemClock, () => 1, audit);
  const socket = path.join(directory, 'a.sock');
  await control.listen(socket);
  t.teardown(() => control.stop());
  const answer = ask(socket);
  setTimeout(() => void here.groups.start(), 100);
  t.equal((await answer).groups.length, 2);
});

t.test('an agent serves what it can', async (t: Test) => {
  const directory = scratchDirectory(t);
  const volume = socketVolume(directory);
  writeFileSync(volume.backing, Buffer.alloc(1 << 20));
  const missing = { ...socketVolume(directory, 'gone'), name: 'gone' };
  const moreGroups = [
    {
      name: 'broken',
      ringBytes: 8n << 20n,
      lingerUs: 1000,
      unmarkAfterMs: 60_000,
      spool: null,
      resyncRateMax: null,
      volumes: [missing],
    },
  ];
  const agent = await RunningAgent.start({ directory, receiverPort: 1, volumes: [volume], moreGroups });
  t.teardown(() => agent.stopNow());
  const [broken, db] = await agent.groups();
  t.match(broken, { name: 'broken', state: 'failed', detail: /^BACKING_MISSING/ });
  t.match(db?.volumes[0]?.device, /^unix:/);
  await agent.stop();
});

t.test('a control socket that cannot be fails the agent before a volume is served', async (t) => {
  const directory = scratchDirectory(t);
  const volume = socketVolume(directory);
  writeFileSync(volume.backing, Buffer.alloc(1 << 20));
  writeFileSync(path.join(directory, 'file'), '');
  const site = { directory, receiverPort: 1, volumes: [volume], control: path.join(directory, 'file') };
  await t.rejects(RunningAgent.attempt(site), { code: 'LISTEN_FAILED' });
  t.throws(() => writeFileSync(path.join(directory, 'state', 'db.json'), '', { flag: 'r+' }), {
    code: 'ENOENT',
  });
});

function two(): [GroupConfig, GroupConfig] {
  const [shop, mail] = configs;
  if (shop === undefined || mail === undefined) throw new Error('two groups');
  return [shop, mail];
}

t.test(
  'another configuration: new groups begin, those that are gone end, the others are not touched',
  async (t) => {
    const here = scene();
    await here.groups.start();
    const [shop, mail] = two();
    const web = { ...mail, name: 'web' };
    const kept = here.made.get('shop');
    const none = { added: [], returning: [], removed: [], held: [], reshaped: [], refused: [], changed: [] };
    t.same(await here.groups.reload([shop, web]), {
      ...none,
      added: [{ name: 'web', error: null }],
      returning: [],
      removed: ['mail'],
    });
    t.same(
      here.states().map(([name]) => name),
      ['shop', 'mail', 'web'],
      'somebody uses its volumes: it goes on',
    );
    t.same(await here.groups.reload([shop, web]), none, 'nothing is new');
    here.made.get('mail')?.stopped();
    await until(() => here.states().length === 2);
    t.equal(here.made.get('shop'), kept);
    t.same((await here.groups.reload([{ ...shop, ringBytes: 1n }, web])).changed, ['shop']);
    t.same(await here.groups.reload([web]), { ...none, held: ['shop'] }, 'protection is under its volumes');
    t.same(here.states(), [
      ['shop', 'protected'],
      ['web', 'protected'],
    ]);
    here.drain.abort();
    await t.rejects(here.groups.reload([shop]), { code: 'INTERRUPTED' });
  },
);

t.test('a new group that cannot start is tried again, and one that never started leaves', async (t) => {
  const here = scene('web');
  await here.groups.start();
  const [shop, mail] = two();
  const web = { ...mail, name: 'web' };
  t.match((await here.groups.reload([shop, mail, web])).added, [
    { name: 'web', error: { code: 'BACKING_MISSING' } },
  ]);
  t.match(here.groups.status().at(-1), { name: 'web', state: 'failed' });
  await until(() => here.pauses.length === 1);
  t.same((await here.groups.reload([shop, mail])).removed, ['web']);
  await until(() => here.states().length === 2);
  here.unstartable.clear();
  t.same(
    (await here.groups.reload([shop, mail, web])).added,
    [{ name: 'web', error: null }],
    'and comes again',
  );
});

t.test('a group that runs gets other volumes, as far as it can', async (t) => {
  const here = scene();
  await here.groups.start();
  const [shop, mail] = two();
  const data = volumeOf(mail);
  const volume = (name: string, mapped: string | null = null) => ({ ...data, name, mapped });
  const withVolumes = (...volumes: VolumeConfig[]): GroupConfig[] => [shop, { ...mail, volumes }];
  const shapes = (): string[][] | undefined => here.made.get('mail')?.shapes;
  t.match(await here.groups.reload(withVolumes(data, volume('more'))), {
    reshaped: [{ name: 'mail', added: ['more'], leaving: [] }],
    changed: [],
  });
  t.match(await here.groups.reload(withVolumes(data, volume('more'), volume('broken'))), {
    reshaped: [],
    refused: [{ name: 'mail', error: { code: 'BACKING_MISSING' } }],
  });
  t.match(
    await here.groups.reload(withVolumes(volume('more'), volume('inserted', '/dev/mapper/x'))),
    { reshaped: [{ leaving: ['data'] }], changed: ['mail'] },
    'one that is to be inserted waits',
  );
  t.same(shapes(), [['data', 'more'], ['more']]);
  t.match(await here.groups.reload(withVolumes({ ...volume('more'), cache: 'direct' })), {
    reshaped: [],
    changed: ['mail'],
  });
  const [waiting] = (await here.groups.reload([{ ...shop, volumes: [volume('other')] }, mail])).reshaped;
  t.match(waiting, { name: 'shop', added: ['other'] }, 'one that is inserted stays');
  t.same(here.made.get('shop')?.shapes, [['other', 'data']]);
});

// Only the log said so: whoever looked at the group saw nothing.
t.test('a group that cannot get its volumes says so until something else is wanted', async (t) => {
  const here = scene();
  await here.groups.start();
  const [shop, mail] = two();
  const data = volumeOf(mail);
  const wanted = { ...mail, volumes: [data, { ...data, name: 'broken' }] };
  const detail = (): string | undefined => here.groups.status()[1]?.detail;
  const usual = detail();
  const refused = [{ name: 'mail', error: { code: 'BACKING_MISSING' } }];
  t.match(await here.groups.reload([shop, wanted]), { refused, changed: [] });
  t.match(detail(), /it goes on with the volumes that it had: BACKING_MISSING: it is away\. \w/);
  t.match(
    await here.groups.reload([shop, { ...wanted, ringBytes: 1n }]),
    { refused, changed: ['mail'] },
    'what else is new is told too',
  );
  t.match(
    await here.groups.reload([
      shop,
      { ...mail, volumes: [{ ...data, name: 'new', mapped: '/dev/mapper/x' }] },
    ]),
    { refused: [{ name: 'mail', error: { code: 'CONFIG_INVALID' } }] },
    'none would be left',
  );
  t.match(detail(), /CONFIG_INVALID/);
  await here.groups.reload([shop, mail]);
  t.equal(detail(), usual);
});

t.test('a group that could not start is tried as it is configured now', async (t) => {
  const here = scene('mail');
  await here.groups.start();
  const [shop, mail] = two();
  here.unstartable.clear();
  await here.groups.reload([shop, { ...mail, ringBytes: 1n }]);
  t.equal(here.made.get('mail')?.config.ringBytes, 1n);
  t.same(here.states(), [
    ['shop', 'protected'],
    ['mail', 'protected'],
  ]);
});

t.test('a group that is on its way out comes back when it is gone', async (t) => {
  const here = scene();
  await here.groups.start();
  const [shop, mail] = two();
  const first = here.made.get('mail');
  await here.groups.reload([shop]);
  // Somebody may use its volumes for hours: neither this reload nor the next one waits for that.
  t.match(await here.groups.reload([shop, mail]), { added: [], returning: ['mail'] });
  t.match(await here.groups.reload([shop]), { added: [], returning: [] });
  t.match(await here.groups.reload([shop, mail]), { added: [], returning: ['mail'] });
  t.equal(here.made.get('mail'), first);
  first?.stopped();
  while (here.made.get('mail') === first) await new Promise(setImmediate);
  t.equal(here.states().length, 2);
});

t.test('a group that is on its way out does not come back to an agent that stops', async (t) => {
  const here = scene();
  await here.groups.start();
  const [shop, mail] = two();
  const first = here.made.get('mail');
  await here.groups.reload([shop]);
  await here.groups.reload([shop, mail]);
  here.drain.abort();
  first?.stopped();
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  t.equal(here.made.get('mail'), first);
});
