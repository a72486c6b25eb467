/**
 * `afterimage volume insert|remove`: protection put under the mapped volumes of a group, and taken out again, while a file
 * system on them is mounted. Runs in the process of the command, since it must work without an agent too: what it does is
 * all in the kernel (mapped_device.ts), and can be cut off anywhere and begun again. docs/ARCHITECTURE.md has the order.
 */
import { open, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentStatus, GroupStatus } from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { clearServed, isClaimed } from '../service/loop_devices.js';
import { swapAreas } from '../service/mounts.js';
import { named, systemError } from '../service/system_errors.js';
import type * as native from '../native/index.js';
import { refuseDeviceHolding } from './backing.js';
import type { AgentConfig } from './config.js';
import type { DeviceMapper } from './device_mapper.js';
import { servedAt } from './loop_attachment.js';
import { MappedDevice, type MappedWay } from './mapped_device.js';
import { LINK_DIR, removeLink } from './stable_link.js';

/** As long as the agent may take to serve them. */
const PROOF_MS_MAX = 120_000;

/** What is asked of the agent. Errors: its own, and DAEMON_UNREACHABLE. */
export interface AgentCalls {
  status(): Promise<AgentStatus>;
  insert(group: string): Promise<GroupStatus>;
  release(group: string): Promise<void>;
}
export interface InsertionSurroundings {
  config: AgentConfig;
  agent: AgentCalls;
  mapper: DeviceMapper;
  door: Pick<typeof native, 'detachNbd' | 'detachLoop'>;
  log: Log;
  /** What this command and the agent are made of: it must not lie on what waits for them. */
  programs: readonly string[];
  /** Aborted: nothing is begun any more. */
  drain: AbortSignal;
}
export interface VolumeSubject {
  group: string;
  /** "": all of the group. */
  volume: string;
}
interface MappedVolume {
  name: string;
  device: MappedDevice;
}

/**
 * Resolves, with the devices, when their I/O goes through the agent. Otherwise it goes where it went before, unless the
 * message says that it waits. Errors: GROUP_UNKNOWN, VOLUME_UNKNOWN, VOLUME_NOT_MAPPED, VOLUME_INSERTED,
 * DAEMON_UNREACHABLE, BACKING_ON_ITSELF, those of MappedDevice and of proveWritable, and what keeps the agent from serving
 * them.
 */
export async function insertVolumes(
  subject: VolumeSubject,
  around: InsertionSurroundings,
): Promise<string[]> {
  const { agent, config, programs, drain } = around;
  const volumes = mappedVolumes(subject, around);
  const ways = await Promise.all(volumes.map(({ device }) => device.way()));
  // Whoever would have to end the wait would wait for it.
  const needed = [...programs, ...(await swapAreas()), config.stateDir, config.runDir];
  for (const { device } of volumes)
    for (const file of needed) await refuseDeviceHolding(device.mapped, await device.number(), file);
  const group = (await agent.status()).groups.find(({ name }) => name === subject.group);
  if (group === undefined)
    throw new AfterimageError('GROUP_UNKNOWN', `the agent that answers has no group ${subject.group}`);
  const isServed = group.state !== 'failed' && group.volumes.every(({ device }) => device !== '');
  if (ways.every(isInserted) && isServed)
    throw new AfterimageError('VOLUME_INSERTED', `protection is under ${titles(volumes)} already`);

  const taken = volumes.filter((_, index) => ['plain', 'direct'].includes(ways[index]?.kind ?? ''));
  // The agent cannot begin without it: where it hangs, it does so now, while nobody waits.
  if (taken.length > 0) await proveWritable(config.stateDir, drain);
  try {
    for (const { device } of taken) await device.hold();
    await serve(volumes, subject.group, agent);
  } catch (thrown) {
    await putBack(taken, subject.group, agent, thrown);
    throw thrown;
  }
  return volumes.map(({ device }) => device.mapped);
}

/**
 * Resolves, with the devices, when their I/O goes past any agent. Works without one. Errors: GROUP_UNKNOWN, VOLUME_UNKNOWN,
 * VOLUME_NOT_MAPPED, VOLUME_NOT_INSERTED, VOLUME_BUSY, those of MappedDevice, and what keeps the agent from giving them back.
 */
export async function removeVolumes(
  subject: VolumeSubject,
  around: InsertionSurroundings,
): Promise<string[]> {
  const { agent, config, door, log } = around;
  const all = mappedVolumes(subject, around);
  const ways = await Promise.all(all.map(({ device }) => device.way()));
  const volumes = all.filter((_, index) => !isAside(ways[index]));
  for (const { device } of all) if (!volumes.some((one) => one.device === device)) await device.settle();
  if (volumes.length === 0)
    throw new AfterimageError('VOLUME_NOT_INSERTED', `no protection is under ${titles(all)}`);

  // One that does not know the group does not have its backings either.
  const isThere = await agent.status().then(
    ({ groups }) => groups.some(({ name }) => name === subject.group),
    (thrown: unknown) => {
      if (toAfterimageError(thrown).code !== 'DAEMON_UNREACHABLE') throw thrown;
      return false;
    },
  );
  for (const { device } of volumes) {
    // What is in the way of giving it back takes its time now, while nobody waits.
    if (isThere) await flush(device.backing);
    else await endDeadServer(device, door.detachNbd);
  }
  try {
    for (const { device } of volumes) await device.hold();
    if (isThere) await agent.release(subject.group);
    for (const { device } of volumes) await device.release();
  } catch (thrown) {
    throw waiting(volumes, thrown);
  }
  if (!isThere)
    for (const { name } of volumes) await clearDead(config.runDir, subject.group, name, door, log);
  return volumes.map(({ device }) => device.mapped);
}

const isInserted = (way: MappedWay): boolean => way.kind === 'through' && !way.hasFailed && !way.isCutOff;
/** Whether its I/O goes past any agent. */
const isAside = (way: MappedWay | undefined): boolean =>
  (way?.kind === 'plain' || way?.kind === 'direct') && !way.isCutOff;
const titles = (volumes: readonly MappedVolume[]): string =>
  volumes.map(({ device }) => device.mapped).join(', ');

function mappedVolumes(
  { group, volume }: VolumeSubject,
  { config, mapper }: InsertionSurroundings,
): MappedVolume[] {
  const found = config.groups.find(({ name }) => name === group);
  if (found === undefined)
    throw new AfterimageError('GROUP_UNKNOWN', `the configuration has no group ${group}`);
  if (volume !== '' && !found.volumes.some(({ name }) => name === volume))
    throw new AfterimageError('VOLUME_UNKNOWN', `group ${group} has no volume ${volume}`);
  const volumes = found.volumes.flatMap(({ name, mapped }) =>
    mapped === null ? [] : [{ name, device: new MappedDevice(mapped, mapper) }],
  );
  if (volumes.length === 0)
    throw new AfterimageError('VOLUME_NOT_MAPPED', `group ${group} has no mapped volume`);
  if (volume !== '' && volumes.length > 1)
    throw new AfterimageError('USAGE', `group ${group} has other volumes, which go with it: name the group`);
  return volumes;
}

async function serve(volumes: readonly MappedVolume[], group: string, agent: AgentCalls): Promise<void> {
  try {
    await agent.insert(group);
  } catch (thrown) {
    // The device of a killed agent can be detached once nothing goes through it.
    if (!['LOOP_BUSY', 'NBD_BUSY'].includes(toAfterimageError(thrown).code)) throw thrown;
    for (const { device } of volumes) await device.hold();
    await agent.insert(group);
  }
}

async function putBack(
  volumes: readonly MappedVolume[],
  group: string,
  agent: AgentCalls,
  reason: unknown,
): Promise<void> {
  if (volumes.length === 0) return;
  try {
    await agent.release(group).catch(() => undefined); // an agent that died holds nothing
    for (const { device } of volumes) {
      const way = await device.way();
      if (isAside(way)) continue;
      await device.hold();
      await device.release();
    }
  } catch (thrown) {
    throw waiting(volumes, thrown, `; before that: ${toAfterimageError(reason).message}`);
  }
}

function waiting(volumes: readonly MappedVolume[], thrown: unknown, before = ''): AfterimageError {
  const { code, message } = toAfterimageError(thrown);
  const what = `I/O of ${titles(volumes)} may wait until the verb is run again: ${message}${before}`;
  return new AfterimageError(code, what, { cause: thrown });
}

/** Its disk takes changes, durably. Errors: DISK_FULL, PERMISSION_DENIED, IO_ERROR, also where it does not answer; INTERRUPTED. */
async function proveWritable(directory: string, drain: AbortSignal): Promise<void> {
  const subject = `the state directory ${directory} cannot be written to`;
  const givenUp = async (): Promise<never> => {
    const options = { signal: drain, ref: false };
    await sleep(PROOF_MS_MAX, undefined, options).catch(() => drain.throwIfAborted());
    throw new AfterimageError('IO_ERROR', `${subject}: its disk does not answer`);
  };
  await Promise.race([named(proof(path.join(directory, 'insertion-proof')), subject), givenUp()]);
}

/** Of several at once as well. */
async function proof(file: string): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile('proof');
    await handle.sync();
  } finally {
    await handle.close();
    await rm(file, { force: true });
  }
}

/** Errors: IO_ERROR. */
async function flush(file: string): Promise<void> {
  try {
    const device = await open(file, 'r');
    await device.datasync().finally(() => device.close());
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return; // a release before was cut off
    throw systemError(thrown, `${file} cannot be flushed`);
  }
}

/**
 * What an agent that is dead was sent fails, and the device mapper has it wait instead: else nothing could be put in its
 * place. Errors: VOLUME_BUSY when somebody has the backing open: an agent that does not answer is not dead.
 */
async function endDeadServer(device: MappedDevice, detachNbd: typeof native.detachNbd): Promise<void> {
  if (await isClaimed(device.backing)) {
    const what = `somebody has ${device.backing} open, and no agent answers`;
    throw new AfterimageError('VOLUME_BUSY', what);
  }
  const way = await device.way();
  if (way.kind !== 'through') return;
  const directory = path.join('/sys/dev/block', way.device);
  const backend = (await readFile(path.join(directory, 'backend'), 'utf8').catch(() => '')).trimEnd();
  if (!backend.startsWith('afterimage-')) return; // a loop device: its requests have failed with its server
  const event = await readFile(path.join(directory, 'uevent'), 'utf8');
  const name = /^DEVNAME=(nbd\d+)$/m.exec(event)?.[1];
  if (name !== undefined) await detachNbd(`/dev/${name}`, backend, true);
}

/** What a dead agent left of a volume that nobody uses any more. What cannot be cleared away is left to the next agent. */
async function clearDead(
  runDir: string,
  group: string,
  volume: string,
  { detachLoop }: Pick<typeof native, 'detachLoop'>,
  log: Log,
): Promise<void> {
  try {
    await clearServed(servedAt(runDir, group, volume), detachLoop, log);
    await removeLink(path.join(LINK_DIR, group, volume));
  } catch (thrown) {
    log.warn({ err: toAfterimageError(thrown) }, 'left to the next agent');
  }
}
