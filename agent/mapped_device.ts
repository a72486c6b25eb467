/**
 * A device of the device mapper that stays in use while protection is put under it, and taken out again. The old table lives
 * on as a device of its own beside it, NAME-afterimage, which is the volume's backing; the table of the device itself
 * becomes that of `multipath`, which alone can be left while its path is dead, and which waits where it has no path. It is
 * never another again: the kernel replaces multipath by nothing else.
 *
 *     plain ──────┐
 *                 ▼       connect()
 *     direct ◄─ waiting ◄──────────► through
 *
 * Each step can be cut off and taken again. Whoever has the backing open keeps the direct way shut (the device mapper claims
 * it exclusively, and so does the agent), and while the direct way is open, no agent gets the backing.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { AfterimageError } from '../proto/errors.js';
import { DeviceMapper, type MapperEntry } from './device_mapper.js';

export const MAPPER_DIR = '/dev/mapper';
const BACKING_SUFFIX = '-afterimage';
/** Of the device that is to become the backing. */
const FRESH_SUFFIX = '-afterimage-new';
/** DM_NAME_LEN, less the zero at its end. */
export const MAPPED_NAME_BYTES_MAX = 127 - FRESH_SUFFIX.length;
const UUID_PREFIX = 'AFTERIMAGE-';
/** Targets that keep nothing of their own, so that two devices can have the same. */
const CARRIED: readonly string[] = ['linear', 'striped'];

/** The backing of `mapped`, "/dev/mapper/NAME". */
export const mappedBacking = (mapped: string): string => `${mapped}${BACKING_SUFFIX}`;

/**
 * plain: as somebody else has set it up. waiting: all of its I/O waits. through: it goes through `device` ("MAJOR:MINOR"),
 * unless that has failed. direct: to the backing, past any agent. isCutOff: between two of them, and its I/O waits.
 */
export type MappedWay =
  | { kind: 'plain'; table: string[]; isCutOff: boolean }
  | { kind: 'waiting'; isCutOff: boolean }
  | { kind: 'through'; device: string; hasFailed: boolean; isCutOff: boolean }
  | { kind: 'direct'; isCutOff: boolean };

export class MappedDevice {
  readonly name: string;

  /** `mapped`: "/dev/mapper/NAME". */
  constructor(
    readonly mapped: string,
    private readonly mapper = new DeviceMapper(),
  ) {
    this.name = path.basename(mapped);
  }

  get backing(): string {
    return mappedBacking(this.mapped);
  }

  /** Errors: BACKING_MISSING (there is no such device), MAPPER_TABLE, MAPPER_UNAVAILABLE, MAPPER_FAILED, PERMISSION_DENIED. */
  async way(): Promise<MappedWay> {
    const entries = await this.mapper.entries();
    const self = entries.get(this.name);
    if (self === undefined)
      throw new AfterimageError('BACKING_MISSING', `there is no device-mapper device ${this.name}`);
    const { isSuspended: isCutOff } = self;
    const table = await this.mapper.table(this.name);
    const targets = table.map((line) => line.split(/\s+/)[2] ?? '');
    if (targets.length > 0 && targets.every((target) => CARRIED.includes(target)))
      return { kind: 'plain', table, isCutOff };
    const [line] = table;
    const ours = this.ours(entries);
    const device = line === undefined || targets.length > 1 ? null : pathOf(line);
    if (device === null || ours.size === 0) {
      const what = [...new Set(targets)].join(', ') || 'no table';
      throw new AfterimageError('MAPPER_TABLE', `${this.mapped} has ${what}`);
    }
    if (device === '') return { kind: 'waiting', isCutOff };
    if (ours.has(device)) return { kind: 'direct', isCutOff };
    // Of each path: its device, A or F, and how often it has failed.
    const hasFailed = (await this.mapper.status(this.name)).includes(` ${device} F `);
    return { kind: 'through', device, hasFailed, isCutOff };
  }

  /** "MAJOR:MINOR"; "" where it is not there. */
  async number(): Promise<string> {
    return (await this.mapper.entries()).get(this.name)?.number ?? '';
  }

  /**
   * What tells one time from another that the backing was an agent's alone; "" where it is not there. It changes before
   * anybody else can write to the backing.
   */
  async insertion(): Promise<string> {
    return (await this.mapper.entries()).get(this.name + BACKING_SUFFIX)?.uuid ?? '';
  }

  /** Has all of its I/O wait, from wherever it went. Errors: those of way(); VOLUME_BUSY. */
  async hold(): Promise<void> {
    const way = await this.way();
    if (way.kind === 'plain') {
      // What lies beside it is of another time: what a device of that name was.
      const entries = await this.mapper.entries();
      for (const name of [this.name + FRESH_SUFFIX, this.name + BACKING_SUFFIX])
        if (entries.has(name)) await this.mapper.remove(name);
      await this.mapper.create(this.name + BACKING_SUFFIX, newUuid(), way.table);
      const sectors = way.table.reduce((sum, line) => sum + BigInt(line.split(/\s+/)[1] ?? '0'), 0n);
      await this.mapper.replace(this.name, [waitingTable(sectors)]);
    } else if (way.kind !== 'waiting' || way.isCutOff) {
      await this.mapper.replace(this.name, [waitingTable(await this.sectors())]);
    } else {
      // A release that was cut off may have claimed the backing.
      await this.mapper.discard(this.name);
    }
    await this.settle();
  }

  /**
   * Has its I/O go through `device`, a path, which serves the backing. Nothing is done where it does already. Errors: those of
   * way(); VOLUME_NOT_INSERTED from where it does not wait.
   */
  async connect(device: string, number: string): Promise<void> {
    const way = await this.way();
    if (way.kind === 'plain' || way.kind === 'direct')
      throw new AfterimageError('VOLUME_NOT_INSERTED', `the I/O of ${this.mapped} goes past the agent`);
    const isThere = way.kind === 'through' && way.device === number;
    if (isThere && !way.hasFailed && !way.isCutOff) return;
    await this.mapper.replace(this.name, [pathTable(await this.sectors(), device)]);
  }

  /**
   * From waiting: its I/O goes past any agent, to a backing of another identity. Errors: those of way(); VOLUME_BUSY while
   * somebody has the backing open.
   */
  async release(): Promise<void> {
    await this.settle();
    const fresh = this.name + FRESH_SUFFIX;
    await this.mapper.create(fresh, newUuid(), await this.mapper.table(this.name + BACKING_SUFFIX));
    try {
      await this.mapper.remove(this.name + BACKING_SUFFIX);
    } catch (thrown) {
      await this.mapper.remove(fresh).catch(() => undefined); // the next attempt does it
      throw thrown;
    }
    await this.mapper.replace(this.name, [pathTable(await this.sectors(), path.join(MAPPER_DIR, fresh))]);
    await this.settle();
  }

  /** Ends what a release that was cut off had begun. */
  async settle(): Promise<void> {
    const entries = await this.mapper.entries();
    const [backing, fresh] = [this.name + BACKING_SUFFIX, this.name + FRESH_SUFFIX];
    if (!entries.has(fresh)) return;
    if (entries.has(backing)) await this.mapper.remove(fresh);
    else await this.mapper.rename(fresh, backing);
  }

  private async sectors(): Promise<bigint> {
    const [line = ''] = await this.mapper.table(this.name);
    return BigInt(line.split(/\s+/)[1] ?? '0');
  }

  /** The numbers of the devices beside it that are made here. */
  private ours(entries: ReadonlyMap<string, MapperEntry>): Set<string> {
    const beside = [this.name + BACKING_SUFFIX, this.name + FRESH_SUFFIX].map((name) => entries.get(name));
    return new Set(
      beside.flatMap((entry) => (entry?.uuid.startsWith(UUID_PREFIX) === true ? [entry.number] : [])),
    );
  }
}

const newUuid = (): string => UUID_PREFIX + randomBytes(16).toString('hex');

/** Whatever a path answers, requests wait for another one. bio: a device that was `linear` takes no other mode. */
const FEATURES = '3 queue_if_no_path queue_mode bio 0';
const waitingTable = (sectors: bigint): string => `0 ${sectors} multipath ${FEATURES} 0 0`;
const pathTable = (sectors: bigint, device: string): string =>
  `0 ${sectors} multipath ${FEATURES} 1 1 round-robin 0 1 1 ${device} 1`;

/** "" of a table without a path; null: it is none of those above. The kernel adds features of its own. */
function pathOf(line: string): string | null {
  const [, , target, featureCount, ...rest] = line.trim().split(/\s+/);
  if (target !== 'multipath' || !/^\d+$/.test(featureCount ?? '')) return null;
  const after = rest.slice(Number(featureCount)).join(' ');
  if (after === '0 0 0') return '';
  return /^0 1 1 round-robin 0 1 1 (\d+:\d+) 1$/.exec(after)?.[1] ?? null;
}
