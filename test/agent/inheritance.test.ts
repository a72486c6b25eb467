/** What an agent puts into the descriptor store, and what a successor makes of what it finds there. */
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { backingSight } from '../../agent/backing_sight.js';
import { systemClock } from '../../agent/clock.js';
import { GroupCustody, type KeptAttachment, type StoreDoor } from '../../agent/custody.js';
import { sortInheritance } from '../../agent/inheritance.js';
import { inheritedStream, TakenGroup } from '../../agent/takeover.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';
import { qemuIo, scratchDirectory } from './running_agent.js';

const GROUP = {
  name: 'shop',
  uuid: Buffer.alloc(16, 1),
  member: Buffer.alloc(16, 2),
  ringBytes: 8n << 20n,
  lingerUs: 3000,
  unmarkAfterMs: null,
  spool: null,
};
const VOLUME = {
  name: 'data',
  number: 3,
  uuid: Buffer.alloc(16, 4),
  size: 2n ** 45n,
  blockSize: 4096,
  backing: '/dev/vg0/data',
  mapped: null,
  stateDir: '/var/lib/afterimage/agent',
  cache: 'buffered',
  sight: { inode: 0n, bornNs: 0n, name: 'dm/uuid LVM-1', medium: '7', partition: '' },
} as const;
const THREADS = 4;
const LOOP = { device: '/dev/loop3', link: '/dev/afterimage/shop/data', file: { device: 57n, inode: 2n } };

/** What is kept of a loop device. */
const loopOf = (server: Pick<native.FuseServer, 'legacy'>) => (): KeptAttachment => {
  const { fuse, slots, ...session } = server.legacy();
  const attachment = { kind: 'loop', threads: THREADS, ...LOOP, ...session } as const;
  return { attachment, descriptors: slots === null ? { fuse } : { fuse, slots } };
};

/** A store in memory, and descriptors of files that stand for those of a server. */
function scene(t: Test, door: Partial<StoreDoor> = {}) {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-store-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = path.join(directory, 'file');
  writeFileSync(file, 'x');
  const kept: native.StoredDescriptor[] = [];
  t.teardown(() => {
    for (const { descriptor } of kept) if (isOpen(descriptor)) closeSync(descriptor);
  });
  const held = openSync(file, 'r');
  t.teardown(() => closeSync(held));
  const opened: number[] = [];
  const open = (): number => {
    opened.push(openSync(file, 'r'));
    return opened.at(-1) as number;
  };
  const lines: string[] = [];
  const log = createLog('agent', 'info', { write: (line) => void lines.push(line) });
  const custody = new GroupCustody(
    {
      hasServiceManager: () => true,
      awaitServiceManager: () => Promise.resolve(),
      makeSealedMemory: native.makeSealedMemory,
      storeDescriptor: (name, descriptor) =>
        void kept.push({ name, descriptor: openSync(`/proc/self/fd/${descriptor}`, 'r') }),
      forgetDescriptor: (name) => {
        for (let i = kept.length - 1; i >= 0; i -= 1) if (kept[i]?.name === name) kept.splice(i, 1);
      },
      ...door,
    },
    GROUP,
    log,
  );
  const server = {
    legacy: () => ({
      fuse: open(),
      slots: open(),
      mountPoint: '/run/afterimage/fuse/shop/data',
      connection: 57,
    }),
    stop: () => Promise.resolve(),
  };
  const captured = { inFlightDescriptor: () => held };
  return { custody, captured, server, kept, open, opened, lines };
}

function isOpen(descriptor: number): boolean {
  try {
    fstatSync(descriptor);
    return true;
  } catch {
    return false;
  }
}

t.test('what was kept of a volume is what a successor finds', async (t) => {
  const { custody, captured, server, kept, opened, open } = scene(t);
  custody.keepRing({ ringDescriptor: () => open() });
  await custody.volume(VOLUME, captured, null).keep(loopOf(server));
  for (const descriptor of opened.slice(1)) t.notOk(isOpen(descriptor), 'the store has its own');
  const { groups, useless } = sortInheritance(kept);
  t.same(useless, []);
  t.equal(groups.length, 1);
  t.same(groups[0]?.settings, GROUP);
  t.type(groups[0]?.ring, 'number');
  t.same(groups[0]?.volumes[0]?.settings, {
    ...VOLUME,
    attachment: {
      kind: 'loop',
      threads: THREADS,
      ...LOOP,
      mountPoint: '/run/afterimage/fuse/shop/data',
      connection: 57,
    },
  });
  for (const part of ['inFlight', 'fuse', 'slots'] as const) t.type(groups[0]?.volumes[0]?.[part], 'number');
});

t.test('a volume that has grown is kept as large, whatever else the store has', async (t) => {
  const size = VOLUME.size + 4096n;
  const { custody, captured, server, kept } = scene(t);
  const volume = custody.volume(VOLUME, captured, null);
  await volume.grown(size);
  t.equal(kept.length, 0, 'nobody serves it yet');
  await volume.keep(loopOf(server));
  await volume.grown(size);
  t.equal(kept.filter(({ name }) => name === 'shop/data/settings').length, 2, 'it is never without settings');
  for (const found of [kept, [...kept].reverse()]) {
    const copies = found.map(({ name, descriptor }) => ({
      name,
      descriptor: openSync(`/proc/self/fd/${descriptor}`, 'r'),
    }));
    const [group] = sortInheritance(copies).groups;
    const [inherited] = group?.volumes ?? [];
    t.equal(inherited?.settings.size, size);
    // And whoever goes on with that can grow too, without having attached it.
    if (inherited === undefined) continue;
    await custody.volume(VOLUME, captured, inherited.settings.attachment).grown(size + 4096n);
    t.match(kept.at(-1), { name: 'shop/data/settings' });
    kept.pop();
  }
});

t.test('a volume that grows is known to, until its generation has ended', async (t) => {
  const { custody, captured, server, kept } = scene(t);
  const volume = custody.volume(VOLUME, captured, null);
  const isGrowing = (): boolean | undefined => {
    const copies = kept.map(({ name, descriptor }) => ({
      name,
      descriptor: openSync(`/proc/self/fd/${descriptor}`, 'r'),
    }));
    const { groups, useless } = sortInheritance(copies);
    t.same(useless, []);
    return groups[0]?.volumes[0]?.isGrowing;
  };
  volume.growing();
  t.equal(kept.length, 0, 'nobody serves it yet');
  await volume.keep(loopOf(server));
  t.equal(isGrowing(), false);
  volume.growing();
  await volume.grown(VOLUME.size + 4096n);
  t.equal(isGrowing(), true);
  volume.hasGrown();
  t.equal(isGrowing(), false);
  volume.growing();
  volume.forget();
  t.same(kept, []);
});

t.test('what was of no use is replaced, and not kept beside', async (t) => {
  const { custody, captured, server, kept, open } = scene(t);
  const volume = custody.volume(VOLUME, captured, null);
  await volume.keep(loopOf(server));
  const before = kept.map(({ name }) => name).sort();
  const [slots, old] = [open(), kept.find(({ name }) => name === 'shop/data/slots')];
  volume.replace(() => ({ slots }));
  t.notOk(isOpen(slots), 'the store has its own');
  volume.replaceInFlight();
  t.same(kept.map(({ name }) => name).sort(), before);
  t.notOk(kept.includes(old as native.StoredDescriptor));
});

t.test('a volume that was not kept whole had not been let in, and is forgotten', async (t) => {
  for (const part of ['fuse', 'settings']) {
    const { custody, captured, server, kept } = scene(t);
    await custody.volume(VOLUME, captured, null).keep(loopOf(server));
    const found = kept.filter(({ name }) => name !== `shop/data/${part}`);
    const { groups, useless } = sortInheritance(found);
    t.same(groups, []);
    t.equal(useless.length, 3, `without ${part}`);
    for (const { isWorthless } of useless) t.ok(isWorthless);
    for (const { descriptor } of found) t.notOk(isOpen(descriptor), 'and closed');
  }
});

t.test(
  'settings that cannot be read: production waits for a version that can, and the store keeps them',
  async (t) => {
    for (const [content, reason] of [
      ['{"version":2}', /version/],
      ['no JSON', /JSON/],
      ['', /JSON/],
      ['x'.repeat(100_000), /100000 bytes/],
    ] as const) {
      const { custody, captured, server, kept } = scene(t);
      await custody.volume(VOLUME, captured, null).keep(loopOf(server));
      const settings = kept.find(({ name }) => name === 'shop/data/settings');
      if (settings === undefined) throw new Error('there are settings');
      closeSync(settings.descriptor);
      settings.descriptor = native.makeSealedMemory('test', Buffer.from(content));
      const { groups, useless } = sortInheritance(kept);
      t.same(groups, []);
      t.equal(useless.length, 4);
      for (const one of useless) t.match(one, { isWorthless: false, reason });
    }
  },
);

// An upgrade that is taken back: production would wait until it is made again.
t.test('settings of a later version that have more in them are served', async (t) => {
  const { custody, captured, kept } = scene(t);
  const directory = scratchDirectory(t);
  const backing = path.join(directory, 'backing');
  writeFileSync(backing, Buffer.alloc(1 << 20, 7));
  const sight = await backingSight(backing, null);
  const address = { unix: path.join(directory, 'socket') };
  await custody
    .volume({ ...VOLUME, backing, sight, size: 1n << 20n, blockSize: 512 }, captured, null)
    .keep(() => ({ attachment: { kind: 'socket', address }, descriptors: {} }));
  const settings = kept.filter(({ name }) => name === 'shop/data/settings');
  for (const one of settings) {
    const later = withMore(JSON.parse(readFileSync(`/proc/self/fd/${one.descriptor}`, 'utf8')));
    t.match(later, {
      group: { later: 1 },
      volume: { later: 1, attachment: { later: 1, address: { later: 1 } } },
    });
    closeSync(one.descriptor);
    one.descriptor = native.makeSealedMemory('test', Buffer.from(JSON.stringify(later)));
  }
  const [group] = sortInheritance(settings).groups;
  if (group === undefined) throw new Error('they are not served');
  const end = AbortSignal.timeout(20_000);
  const taken = TakenGroup.open(group, native, systemClock, createLog('agent', 'fatal'));
  await taken.serve();
  t.teardown(() => taken.letGo(end));
  await qemuIo(address.unix, 'read -P 7 0 1M', 'write -P 8 0 4k', 'read -P 8 0 4k');
});

/** With a field in each object that is not known. */
function withMore(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).map(([key, one]): [string, unknown] => [key, withMore(one)]);
  return { ...Object.fromEntries(fields), later: 1 };
}

// Symptom: the version that production waited for found no ring, since this one had thrown it away.
t.test('the ring of settings that cannot be read is kept with them', async (t) => {
  const { custody, captured, server, kept, open } = scene(t);
  custody.keepRing({ ringDescriptor: () => open() });
  await custody.volume(VOLUME, captured, null).keep(loopOf(server));
  kept.push({ name: 'other/ring', descriptor: open() });
  const settings = kept.find(({ name }) => name === 'shop/data/settings');
  if (settings === undefined) throw new Error('there are settings');
  closeSync(settings.descriptor);
  settings.descriptor = native.makeSealedMemory('test', Buffer.from('{"version":2}'));
  const { groups, useless } = sortInheritance(kept);
  t.same(groups, []);
  t.match(
    useless.find(({ name }) => name === 'shop/ring'),
    { isWorthless: false },
  );
  t.match(
    useless.find(({ name }) => name === 'other/ring'),
    { isWorthless: true },
    'that of a group without any is not',
  );
});

t.test('the settings of one volume under the name of another are not believed', async (t) => {
  const { custody, captured, server, kept } = scene(t);
  await custody.volume(VOLUME, captured, null).keep(loopOf(server));
  for (const one of kept) one.name = one.name.replace('data', 'logs');
  t.match(sortInheritance(kept).useless[0]?.reason, /those of shop\/data/);
});

t.test(
  'a volume behind a socket has no session of its own, and one whose table is lost is served all the same',
  async (t) => {
    const { custody, captured, kept } = scene(t);
    const address = { unix: '/run/afterimage/shop-data.sock' };
    await custody
      .volume(VOLUME, captured, null)
      .keep(() => ({ attachment: { kind: 'socket', address }, descriptors: {} }));
    const found = kept.filter(({ name }) => name !== 'shop/data/in-flight');
    t.equal(found.length, kept.length - 1);
    const { groups, useless } = sortInheritance(found);
    t.same(useless, []);
    t.same(groups[0]?.volumes[0]?.settings.attachment, { kind: 'socket', address });
    t.match(groups[0]?.volumes[0], { inFlight: null, fuse: null, slots: null });
  },
);

t.test('a volume that nobody uses any more is forgotten', async (t) => {
  const { custody, captured, server, kept } = scene(t);
  const volume = custody.volume(VOLUME, captured, null);
  await volume.keep(loopOf(server));
  volume.forget();
  t.same(kept, []);
});

t.test('a store that fails keeps nobody from being served, and is told of', async (t) => {
  const failing = (): never => {
    throw new AfterimageError('NOTIFY_FAILED', 'the manager is gone');
  };
  const { custody, captured, server, opened, lines } = scene(t, {
    storeDescriptor: failing,
    forgetDescriptor: failing,
  });
  const volume = custody.volume(VOLUME, captured, null);
  await volume.keep(loopOf(server));
  volume.forget();
  t.match(lines.join(''), /NOTIFY_FAILED/);
  for (const descriptor of opened) t.notOk(isOpen(descriptor));
});

t.test('without a service manager nothing is kept', async (t) => {
  const { custody, captured, server, kept } = scene(t, { hasServiceManager: () => false });
  await custody.volume(VOLUME, captured, null).keep(loopOf(server));
  custody.keepRing({ ringDescriptor: () => 0 });
  t.same(kept, []);
});

// Symptom: an agent that was killed after it had given its stream up (the receiver had gone back, its spool could not be
// read), and before the next generation began, was followed by one that told the receiver that it had confirmed all of
// that stream. The receiver recorded damage up to there, and all volumes were compared in full. Cause: what a ring has
// let go of was taken for what was confirmed. If it returns, a stream is inherited here.
t.test('of a stream that a predecessor has given up nothing is claimed', async (t) => {
  const file = path.join(t.testdir(), 'backing');
  writeFileSync(file, Buffer.alloc(1 << 20));
  const backing = await native.openFileDevice({
    path: file,
    cache: 'buffered',
    readOnly: false,
    exclusive: true,
  });
  const { uuid: group, member, ringBytes, lingerUs, spool } = GROUP;
  const options = { group, member, ringBytes, lingerUs, spool, lastTimeNs: 0n, era: 1 };
  const predecessor = native.createCaptureGroup(options);
  const volume = predecessor.addVolume(0, backing, null, null);
  predecessor.beginGeneration({ epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: 1000n });
  const inherited = async () => {
    const captureGroup = native.adoptCaptureGroup(options, predecessor.ringDescriptor());
    const stream = inheritedStream({ captureGroup, isContinued: true });
    await captureGroup.close();
    return stream;
  };
  await volume.write(0n, Buffer.alloc(4096, 7));
  predecessor.abandonStream();
  t.equal(await inherited(), null);
  predecessor.beginGeneration({ epoch: 1n, generation: 2n, firstLsn: 2n, lsnCeiling: 1000n });
  t.match(await inherited(), { generation: 2n, capturedLsn: 1n, releasedLsn: 1n }, 'the next one goes on');
  await predecessor.close();
  await volume.close();
  await backing.close();
});
