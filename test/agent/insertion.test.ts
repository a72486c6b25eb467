/** `afterimage volume insert|remove` with agents of every mood, on a model of the device mapper. */
import { mkdtempSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { AgentConfig } from '../../agent/config.js';
import { DeviceMapper } from '../../agent/device_mapper.js';
import { insertVolumes, removeVolumes, type InsertionSurroundings } from '../../agent/insertion.js';
import { MappedDevice, mappedBacking } from '../../agent/mapped_device.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';
import { agentStatus, groupStatus } from '../cli/canned.js';
import { KernelMapper } from './kernel_mapper.js';

const NAMES = ['data', 'log'];
const STATE_DIR = mkdtempSync(path.join(os.tmpdir(), 'afterimage-insertion-'));
t.teardown(() => rmSync(STATE_DIR, { recursive: true }));

function scene(names = NAMES, stateDir = STATE_DIR) {
  const kernel = new KernelMapper();
  for (const name of names) kernel.add(name, ['0 8 linear 8:16 0']);
  const mapper = new DeviceMapper(kernel.dmsetup);
  const devices = names.map((name) => new MappedDevice(`/dev/mapper/${name}`, mapper));
  const volumes = devices.map(({ name, mapped }) => ({
    ...{ name, mapped, backing: mappedBacking(mapped), cache: 'buffered' as const },
    attach: { kind: 'nbd' as const },
  }));
  const group = { name: 'shop', ringBytes: 8n << 20n, lingerUs: 1000, volumes };
  const other = { ...group, name: 'mail', volumes: volumes.map((one) => ({ ...one, mapped: null })) };
  const config = {
    ...{
      receiver: { plain: { host: '::1', port: 1 } },
      stateDir,
      identityFile: '/nowhere/identity.json',
      runDir: '/nowhere/run',
    },
    ...{ control: '/nowhere/run/agent.sock', logLevel: 'info', groups: [group, other] },
  } as AgentConfig;
  /** An agent in good order. */
  const agent = {
    calls: [] as string[],
    isThere: true,
    failure: null as AfterimageError | null,
    isServing: false,
    state: 'protected',
    status() {
      if (!agent.isThere) return Promise.reject(new AfterimageError('DAEMON_UNREACHABLE', 'nobody'));
      const [volume] = groupStatus().volumes;
      const served = names.map((name) => ({ ...volume, name, device: agent.isServing ? '/dev/nbd0' : '' }));
      return Promise.resolve({
        ...agentStatus,
        groups: [groupStatus({ name: 'shop', state: agent.state, volumes: served as never })],
      });
    },
    async insert() {
      agent.calls.push('insert');
      if (agent.failure !== null) throw agent.failure;
      for (const [index, device] of devices.entries()) {
        kernel.held.add(`${device.name}-afterimage`);
        await device.connect(`/dev/nbd${index}`, `43:${index}`);
      }
      agent.isServing = true;
      return groupStatus();
    },
    release() {
      agent.calls.push('release');
      kernel.held.clear();
      agent.isServing = false;
      return Promise.resolve();
    },
  };
  const around: InsertionSurroundings = {
    ...{ config, agent, mapper, programs: ['/'], drain: new AbortController().signal },
    door: { detachNbd: unexpected, detachLoop: unexpected },
    log: createLog('agent', 'fatal'),
  };
  const ways = () => Promise.all(devices.map(async (device) => (await device.way()).kind));
  return { kernel, devices, agent, around, ways };
}

const unexpected = () => Promise.reject(new Error('not here'));
const SHOP = { group: 'shop', volume: '' };

t.test('put under a group, and taken out', async (t) => {
  const { around, ways, agent } = scene();
  t.same(await insertVolumes(SHOP, around), ['/dev/mapper/data', '/dev/mapper/log']);
  t.same(await ways(), ['through', 'through']);
  await t.rejects(insertVolumes(SHOP, around), { code: 'VOLUME_INSERTED' });
  t.same(await removeVolumes(SHOP, around), ['/dev/mapper/data', '/dev/mapper/log']);
  t.same(await ways(), ['direct', 'direct']);
  await t.rejects(removeVolumes(SHOP, around), { code: 'VOLUME_NOT_INSERTED' });
  await insertVolumes(SHOP, around);
  t.same(await ways(), ['through', 'through']);
  t.same(agent.calls, ['insert', 'release', 'insert']);
});

// Said to be inserted already, with nothing to be done: what keeps the group from being protected was not told.
t.test('a group that is served and cannot be protected is tried, and why is told', async (t) => {
  const { around, agent } = scene();
  await insertVolumes(SHOP, around);
  agent.state = 'failed';
  agent.failure = new AfterimageError('STATE_INVALID', 'shop.json');
  await t.rejects(insertVolumes(SHOP, around), { code: 'STATE_INVALID' });
});

t.test('without an agent nothing is inserted, and everything can be removed', async (t) => {
  const { around, ways, agent, kernel } = scene();
  agent.isThere = false;
  await t.rejects(insertVolumes(SHOP, around), { code: 'DAEMON_UNREACHABLE' });
  t.same(await ways(), ['plain', 'plain']);
  t.equal(kernel.steps, 0);
  agent.isThere = true;
  await insertVolumes(SHOP, around);
  agent.isThere = false;
  await t.rejects(removeVolumes(SHOP, around), { code: 'VOLUME_BUSY' }, 'it has the backing still');
  kernel.held.clear();
  await removeVolumes(SHOP, around);
  t.same(await ways(), ['direct', 'direct']);
});

t.test('a verb that was killed while a device was suspended', async (t) => {
  const { around, ways, kernel } = scene(['data']);
  kernel.stepsLeft = 3; // create, load, suspend
  await t.rejects(insertVolumes(SHOP, around), { message: /killed/ });
  kernel.stepsLeft = Infinity;
  t.equal(kernel.get('data').isSuspended, true);
  await removeVolumes(SHOP, around);
  t.equal(kernel.get('data').isSuspended, false);
  t.same(await ways(), ['direct']);
});

t.test('an agent that cannot serve them leaves them as they were', async (t) => {
  const { around, ways, agent, kernel } = scene();
  agent.failure = new AfterimageError('NBD_UNAVAILABLE', 'no module');
  await t.rejects(insertVolumes(SHOP, around), { code: 'NBD_UNAVAILABLE', message: 'no module' });
  t.same(await ways(), ['direct', 'direct'], 'their I/O goes on');
  // Another agent has them: it is left alone.
  agent.failure = null;
  await insertVolumes(SHOP, around);
  const { steps } = kernel;
  agent.isServing = false;
  agent.failure = new AfterimageError('BACKING_BUSY', 'held by another one');
  await t.rejects(insertVolumes(SHOP, around), { code: 'BACKING_BUSY' });
  t.equal(kernel.steps, steps);
});

// Symptom (review): the disk of the state directory hung, the agent with it, and the I/O of a mounted volume.
t.test('nothing is held where the state directory takes no changes', async (t) => {
  const { around, kernel, agent } = scene(NAMES, '/nowhere/state');
  await t.rejects(insertVolumes(SHOP, around), {
    code: 'IO_ERROR',
    message: /^the state directory \/nowhere\/state cannot be written to/,
  });
  t.equal(kernel.steps, 0);
  t.same(agent.calls, []);
  t.same(await readdir(STATE_DIR), [], 'and nothing is left where it does');
  const drain = AbortSignal.abort(new AfterimageError('INTERRUPTED', 'SIGINT'));
  const { around: given, kernel: untouched } = scene();
  await t.rejects(insertVolumes(SHOP, { ...given, drain }), { code: 'INTERRUPTED' });
  t.equal(untouched.steps, 0);
  // Whose I/O waits already is served all the same.
  const { around: waiting, devices, ways } = scene(['data'], '/nowhere/state');
  for (const device of devices) await device.hold();
  t.same(await ways(), ['waiting']);
  await insertVolumes(SHOP, waiting);
  t.same(await ways(), ['through']);
});

t.test('what a killed agent left is taken away for the next one', async (t) => {
  const { around, ways, agent, kernel, devices } = scene(['data']);
  await insertVolumes(SHOP, around);
  kernel.held.clear();
  agent.isServing = false;
  let attempts = 0;
  const insert = async () => {
    attempts += 1;
    const way = await devices[0]?.way();
    if (way?.kind !== 'waiting') throw new AfterimageError('LOOP_BUSY', 'in use by dm-0');
    return agent.insert();
  };
  await insertVolumes(SHOP, { ...around, agent: { ...agent, insert } });
  t.equal(attempts, 2);
  t.same(await ways(), ['through']);
});

t.test('what is not to be inserted', async (t) => {
  const { around, kernel } = scene();
  const refused = async (group: string, volume: string, code: string): Promise<void> => {
    await t.rejects(insertVolumes({ group, volume }, around), { code }, code);
    await t.rejects(removeVolumes({ group, volume }, around), { code }, code);
  };
  await refused('nobody', '', 'GROUP_UNKNOWN');
  await refused('shop', 'nothing', 'VOLUME_UNKNOWN');
  await refused('shop', 'data', 'USAGE');
  await refused('mail', '', 'VOLUME_NOT_MAPPED');
  const { around: foreign, agent } = scene();
  const status = async () => ({ ...(await agent.status()), groups: [] });
  await t.rejects(insertVolumes(SHOP, { ...foreign, agent: { ...agent, status } }), {
    code: 'GROUP_UNKNOWN',
  });
  t.equal(kernel.steps, 0);
});
