/** Volumes of a running group that come and leave, whatever fails, and whoever changes their mind. */
import t from 'tap';
import { systemClock, type Clock } from '../../agent/clock.js';
import type { VolumeConfig } from '../../agent/config.js';
import { VolumeChanges, type ChangingVolume } from '../../agent/volume_changes.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

const volumeOf = (name: string, backing = name): VolumeConfig => ({
  name,
  backing,
  mapped: null,
  cache: 'buffered',
  attach: { kind: 'nbd' },
});

class CannedVolume implements ChangingVolume {
  usedBy: string | null = null;
  isClosed = false;
  constructor(readonly config: VolumeConfig) {}
  presentUse = () => Promise.resolve(this.usedBy);
}

/** A group of volumes on a clock whose pauses end when the test says so. */
function scene(...names: string[]) {
  const volumes = names.map((name) => new CannedVolume(volumeOf(name)));
  const did: string[] = [];
  const lines: string[] = [];
  const fails = new Set<string>();
  const opened: CannedVolume[] = [];
  let pauses: (() => void)[] = [];
  const clock: Clock = {
    ...systemClock,
    sleep: (_ms, signal) =>
      new Promise((resolve, reject) => {
        pauses.push(resolve);
        signal.addEventListener('abort', () => reject(new Error('aborted')));
      }),
  };
  const failing = (what: string): void => {
    if (fails.has(what)) throw new AfterimageError('IO_ERROR', what);
  };
  const port = {
    volumes,
    open: async (configs: readonly VolumeConfig[]): Promise<CannedVolume[]> => {
      await Promise.resolve();
      failing('open');
      const fresh = configs.map((config) => new CannedVolume(config));
      opened.push(...fresh);
      return fresh;
    },
    giveBack: (volumes: readonly CannedVolume[]): Promise<void> => {
      for (const volume of volumes) volume.isClosed = true;
      return Promise.resolve();
    },
    add: (added: readonly CannedVolume[]): void => {
      failing('add');
      volumes.push(...added);
      did.push(...added.map(({ config }) => `add ${config.name}`));
    },
    serve: (): void => void did.push('serve'),
    remove: async (volume: CannedVolume): Promise<boolean> => {
      await Promise.resolve();
      failing('remove');
      // Whoever merely has it open is not seen before.
      if (fails.has('busy')) return false;
      volumes.splice(volumes.indexOf(volume), 1);
      did.push(`remove ${volume.config.name}`);
      return true;
    },
  };
  const log = createLog('agent', 'info', { write: (line) => void lines.push(line) });
  const changes = new VolumeChanges(port, clock, log);
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  };
  const pass = async (): Promise<void> => {
    const ended = pauses;
    pauses = [];
    for (const end of ended) end();
    await settle();
  };
  const there = (): string[] => volumes.map(({ config }) => config.name);
  return { changes, volumes, did, lines, fails, opened, settle, pass, there };
}

t.test('one comes, and one leaves when nobody uses it', async (t) => {
  const here = scene('a', 'b');
  const [a] = here.volumes;
  if (a === undefined) throw new Error('there is one');
  a.usedBy = 'somebody';
  t.match(await here.changes.take([volumeOf('c'), volumeOf('b')]), {
    added: ['c'],
    leaving: ['a'],
    volumes: [{ name: 'c' }, { name: 'b' }],
  });
  await here.pass();
  t.same(here.there(), ['a', 'b', 'c']);
  a.usedBy = null;
  await here.pass();
  t.same(here.there(), ['b', 'c']);
  t.same(here.did, ['add c', 'serve', 'remove a']);
});

t.test('one that is wanted again stays, as it was', async (t) => {
  const here = scene('a', 'b');
  const [a] = here.volumes;
  if (a === undefined) throw new Error('there is one');
  a.usedBy = 'somebody';
  await here.changes.take([volumeOf('b')]);
  const { volumes, added } = await here.changes.take([volumeOf('a', 'another'), volumeOf('b')]);
  t.match(volumes, [{ name: 'a', backing: 'a' }, { name: 'b' }], 'what it is, and not what was wished');
  t.same(added, []);
  a.usedBy = null;
  await here.pass();
  t.same(here.there(), ['a', 'b']);
});

t.test('one that is wanted again while it is looked at', async (t) => {
  const here = scene('a', 'b');
  const leaving = here.changes.take([volumeOf('b')]);
  const back = here.changes.take([volumeOf('b'), volumeOf('a')]);
  await Promise.all([leaving, back]);
  await here.pass();
  t.same([...here.there()].sort(), ['a', 'b'], 'whether it had left or not');
});

t.test('one that somebody has open holds nobody up', async (t) => {
  const here = scene('a', 'b');
  here.fails.add('busy');
  await here.changes.take([volumeOf('b')]);
  await here.settle();
  t.match(await here.changes.take([volumeOf('b'), volumeOf('c')]), { added: ['c'], leaving: ['a'] });
  t.same(here.there(), ['a', 'b', 'c']);
  here.fails.clear();
  await here.pass();
  t.same(here.there(), ['b', 'c']);
  t.notMatch(here.lines.join(''), /error/);
});

t.test('one that cannot be taken away is tried again, and somebody is told', async (t) => {
  const here = scene('a', 'b');
  here.fails.add('remove');
  await here.changes.take([volumeOf('b')]);
  await here.settle();
  t.match(here.lines.at(-1), /"level":"error".*"volume":"a".*tried again/);
  t.same(here.there(), ['a', 'b']);
  here.fails.clear();
  await here.pass();
  t.same(here.there(), ['b']);
  here.fails.add('remove');
  await here.changes.take([volumeOf('c')]);
  await here.settle();
  here.did.length = 0;
  await here.changes.take([volumeOf('b'), volumeOf('c')]);
  t.same(here.did, ['serve'], 'one that was half away is served again when it is wanted');
});

t.test('what cannot be opened or added changes nothing', async (t) => {
  const here = scene('a');
  for (const what of ['open', 'add']) {
    here.fails.add(what);
    await t.rejects(here.changes.take([volumeOf('b')]), { code: 'IO_ERROR' });
    here.fails.clear();
  }
  await here.pass();
  t.same(here.there(), ['a'], 'nor does anything leave');
  t.same(here.did, []);
  t.ok(here.opened.length === 1 && here.opened.every(({ isClosed }) => isClosed), 'and nothing stays open');
});

t.test('a stop ends what waits', async (t) => {
  const here = scene('a', 'b');
  for (const volume of here.volumes) volume.usedBy = 'somebody';
  await here.changes.take([volumeOf('b')]);
  const late = here.changes.take([volumeOf('b'), volumeOf('c')]);
  late.catch(() => undefined);
  await here.changes.stop();
  await t.rejects(late, { code: 'INTERRUPTED' });
  // Another group may have its state by then, and opening writes that.
  const { length } = here.opened;
  await t.rejects(here.changes.take([volumeOf('later')]), { code: 'INTERRUPTED' });
  t.equal(here.opened.length, length);
  for (const volume of here.volumes) volume.usedBy = null;
  await here.pass();
  t.same(here.there(), ['a', 'b']);
  t.ok(here.opened.every(({ isClosed }) => isClosed));
});
