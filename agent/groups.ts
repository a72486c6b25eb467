/**
 * The protection groups of this host. One that cannot start takes no other down, nor keeps it waiting: the rest is served,
 * and it is tried again until it can. Only when none starts there is nothing to do here.
 */
import { isDeepStrictEqual } from 'node:util';
import type {
  CheckpointInfo,
  DeviceUse,
  GroupStatus,
  VerificationProgress,
  VerificationRequest,
} from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { aborted } from '../service/signals.js';
import type { Clock } from './clock.js';
import type { GroupConfig, VolumeConfig } from './config.js';
import { deviceUses, possibleUses, type UsedVolume } from './device_use.js';
import { endAll } from './endings.js';
import type { VolumeLatencies } from './metrics.js';
import { failedStatus } from './group_status.js';
import { retry } from './retry.js';
import type { Reshaped } from './volume_changes.js';
import type { VolumeActivity } from './watchdog.js';

/** A group that was started. */
export interface StartedGroup {
  readonly isConnected: boolean;
  status(): GroupStatus;
  latencies(): VolumeLatencies[];
  activities(): VolumeActivity[];
  uses(): Promise<DeviceUse[]>;
  createCheckpoint(name: string): Promise<CheckpointInfo>;
  /** Errors: of the first volume that cannot be served. */
  ensureServed(): Promise<void>;
  /** Begins a stop, and resolves when the backings are given back. Never rejects. */
  release(): Promise<void>;
  verify(
    request: Omit<VerificationRequest, 'group'>,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void>;
  /**
   * Serves the volumes that are new, and ends those that are gone, each when nobody uses it. Production of the others does not
   * notice; a new generation begins. Errors: VOLUME_LIMIT, those of backings, INTERRUPTED; then nothing has changed.
   */
  reshape(volumes: readonly VolumeConfig[]): Promise<Reshaped>;
  /** Tells whether the next start can go on where this one ended. */
  stop(): Promise<boolean>;
}
export interface GroupsSurroundings {
  host: string;
  clock: Clock;
  log: Log;
  /** Aborted when no group is to be started any more. */
  drain: AbortSignal;
  /** Aborted when stopping must not wait for anybody any more. */
  end: AbortSignal;
  /** Whether production is served in any case: then groups are tried again also when none could be started. */
  isServing: boolean;
  /** Of a group that was not started: what its predecessor had served, and is served again, or not yet. */
  taken: (group: string) => readonly UsedVolume[];
}

/** What came of another configuration. */
export interface Reloaded {
  /** `error`: why it does not start yet; it is tried again. */
  added: { name: string; error: AfterimageError | null }[];
  /** There again, before the one of that name has ended: they begin then. */
  returning: string[];
  removed: string[];
  /**
   * Gone from the configuration, and going on: protection is under their volumes (`volume remove`), or a predecessor served them
   * and they could not be started yet.
   */
  held: string[];
  /** Going on with other volumes. */
  reshaped: ({ name: string } & Reshaped)[];
  /** Going on with the volumes that they had. */
  refused: { name: string; error: AfterimageError }[];
  /** Going on as they were in what else is new. */
  changed: string[];
}

export class ProtectionGroups {
  /** The first attempts are over. Errors: what start() throws. */
  readonly ready: Promise<void>;
  private onReady!: (error: AfterimageError | null) => void;
  private readonly started = new Map<string, StartedGroup>();
  private readonly failed = new Map<string, AfterimageError>();
  /** By group: over when it is started, or is not to be any more. They never reject. */
  private readonly attempts = new Map<string, Promise<void>>();
  /** By group: aborted when it is not to be tried again. */
  private readonly enough = new Map<string, AbortController>();
  /** Groups that end although the others go on. They never reject. */
  private readonly endings = new Map<string, Promise<void>>();
  /** Groups that the configuration has no more, until they are gone. They never reject. */
  private readonly leaving = new Map<string, Promise<void>>();
  /** Of these, what begins when they are gone. */
  private readonly returning = new Map<string, GroupConfig>();
  private readonly stopping = new AbortController();
  /** Why groups that go on have not the volumes of the last configuration. */
  private readonly refused = new Map<string, AfterimageError>();

  constructor(
    private configs: readonly GroupConfig[],
    private readonly startGroup: (config: GroupConfig) => Promise<StartedGroup>,
    private readonly around: GroupsSurroundings,
  ) {
    this.ready = new Promise((resolve, reject) => {
      this.onReady = (error) => (error === null ? resolve() : reject(error));
    });
    this.ready.catch(() => undefined); // perhaps nobody asks
  }

  /**
   * Tries every group once, all at the same time, and goes on trying those that cannot be started. Returns when that is
   * done, or as soon as `drain` aborts: an attempt may wait for a disk. Errors: the first that a group had, if none starts.
   */
  async start(): Promise<void> {
    const { drain, isServing } = this.around;
    const attempts = drain.aborted ? [] : this.configs.map((config) => this.begin(config));
    const interrupted = aborted(drain).then((): null[] => []);
    const errors: (AfterimageError | null)[] = await Promise.race([Promise.all(attempts), interrupted]);
    const [first] = errors.filter((error) => error !== null);
    // One that waits for its volumes to be inserted will be asked to serve them.
    const isAwaited = errors.some((error) => error?.code === 'VOLUME_NOT_INSERTED');
    if (first !== undefined && this.started.size === 0 && !isServing && !isAwaited) {
      this.onReady(first);
      throw first;
    }
    this.onReady(null);
  }

  get isConnected(): boolean {
    return [...this.started.values()].some((group) => group.isConnected);
  }

  /** Of those that were tried, in the order of the configuration. */
  status(): GroupStatus[] {
    return this.configs.flatMap((config) => {
      const error = this.failed.get(config.name);
      if (error !== undefined) {
        const { host, taken } = this.around;
        return [failedStatus(config, host, error, taken(config.name))];
      }
      const status = this.started.get(config.name)?.status();
      return status === undefined ? [] : withRefusal(status, this.refused.get(config.name));
    });
  }

  /** Of all volumes that are served. */
  latencies(): VolumeLatencies[] {
    return [...this.started.values()].flatMap((group) => group.latencies());
  }

  /** Of all volumes that are served. */
  activities(): VolumeActivity[] {
    return [...this.started.values()].flatMap((group) => group.activities());
  }

  /** Of all volumes that production has, or may have, who uses them. */
  async uses(): Promise<DeviceUse[]> {
    return (await Promise.all(this.configs.map((config) => this.usesOf(config)))).flat();
  }

  private usesOf(config: GroupConfig): Promise<DeviceUse[]> {
    const { name } = config;
    const group = this.started.get(name);
    if (group !== undefined) return group.uses();
    const taken = this.around.taken(name);
    if (taken.length > 0) return deviceUses(name, taken);
    const error = this.failed.get(name);
    const reason = error ?? new AfterimageError('CLOSED', 'the group is being started');
    return possibleUses(config, reason, error === undefined);
  }

  /** Errors: GROUP_UNKNOWN, why the group is not started, and those of StartedGroup.createCheckpoint. */
  async createCheckpoint(group: string, name: string): Promise<CheckpointInfo> {
    return await this.startedGroup(group).createCheckpoint(name);
  }

  /** Errors: GROUP_UNKNOWN, why the group is not started, and those of StartedGroup.verify. */
  verify(
    { group, ...request }: VerificationRequest,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void> {
    return this.startedGroup(group).verify(request, signal);
  }

  private startedGroup(group: string): StartedGroup {
    const found = this.started.get(group);
    if (found !== undefined) return found;
    throw this.failed.get(group) ?? new AfterimageError('GROUP_UNKNOWN', `this agent has no group ${group}`);
  }

  /**
   * Serves the mapped volumes of a group, under which protection is being put. Errors: GROUP_UNKNOWN, VOLUME_NOT_MAPPED, and
   * why they cannot be served.
   */
  async insert(name: string): Promise<GroupStatus> {
    const config = this.mappedGroup(name);
    await this.endings.get(name);
    await this.endAttempts(name);
    if (this.around.drain.aborted) throw new AfterimageError('INTERRUPTED', 'the agent is stopping');
    if (this.started.has(name)) await this.started.get(name)?.ensureServed();
    else {
      const error = await this.begin(config);
      if (error !== null) throw error;
    }
    const group = this.started.get(name);
    if (group === undefined) throw new AfterimageError('CLOSED', `${name} was stopped meanwhile`);
    return group.status();
  }

  /** Gives back the mapped volumes of a group, from under which protection is taken. Errors: GROUP_UNKNOWN, VOLUME_NOT_MAPPED. */
  async release(name: string): Promise<void> {
    const config = this.mappedGroup(name);
    await this.endAttempts(name);
    const group = this.started.get(name);
    const taken = new AfterimageError('VOLUME_NOT_INSERTED', `protection was taken out from under ${name}`);
    if (group === undefined) {
      this.failed.set(name, taken); // it is not tried again either
      return;
    }
    await group.release();
    if (this.endings.has(name)) return;
    const ended = (): void => {
      this.endings.delete(name);
      this.failed.set(name, taken);
    };
    const failed = (thrown: unknown): void =>
      this.logOf(config).error({ err: toAfterimageError(thrown) }, 'at the end of the group');
    this.endings.set(name, this.end(config).catch(failed).then(ended));
  }

  /**
   * Takes another configuration: begins the groups that are new, and stops those that are gone, once nobody uses their volumes
   * any more; until then they go on. Those that go on get other volumes likewise. The others are not touched: what else is new in
   * them waits for a hand-over. Errors: INTERRUPTED when the agent is stopping.
   */
  async reload(configs: readonly GroupConfig[]): Promise<Reloaded> {
    if (this.around.drain.aborted) throw new AfterimageError('INTERRUPTED', 'the agent is stopping');
    this.refused.clear();
    for (const name of this.leaving.keys()) {
      const config = named(name, configs);
      if (config === undefined) this.returning.delete(name);
      else this.returning.set(name, config);
    }
    const returning = [...this.returning.keys()];
    const gone = this.configs.filter(
      ({ name }) => named(name, configs) === undefined && !this.leaving.has(name),
    );
    // Their tables would lead to nobody; and what a predecessor serves is not served by anybody else.
    const [held, leaving] = partition(
      gone,
      ({ volumes, name }) =>
        (this.started.has(name) && volumes.some(({ mapped }) => mapped !== null)) ||
        this.around.taken(name).length > 0,
    );
    const fresh = configs.filter(({ name }) => named(name, this.configs) === undefined);
    const staying = configs.filter(
      ({ name }) => named(name, this.configs) !== undefined && !this.leaving.has(name),
    );
    for (const config of leaving) this.leave(config);
    const [added, shapes] = await Promise.all([
      Promise.all(fresh.map((config) => this.add(config))),
      Promise.all(staying.map((config) => this.change(config))),
    ]);
    return {
      added,
      returning,
      removed: leaving.map(({ name }) => name),
      held: held.map(({ name }) => name),
      reshaped: shapes.flatMap(({ reshaped }) => reshaped ?? []),
      refused: shapes.flatMap(({ refused }) => refused ?? []),
      changed: shapes.flatMap(({ changed }) => changed ?? []),
    };
  }

  /** What can change of a group that goes on does. */
  private async change(next: GroupConfig): Promise<Shape> {
    const { name } = next;
    const before = named(name, this.configs);
    if (before === undefined || isDeepStrictEqual(before, next)) return {};
    const group = this.started.get(name);
    if (group === undefined) return this.tryAnew(next);
    const shape: Shape = {};
    try {
      const reshaped = await group.reshape(wantedOf(before.volumes, next.volumes));
      this.replace({ ...before, volumes: reshaped.volumes });
      if (reshaped.added.length + reshaped.leaving.length > 0) shape.reshaped = { name, ...reshaped };
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      this.refused.set(name, error);
      shape.refused = { name, error };
    }
    // Of volumes that it was refused all is told already.
    const wanted = shape.refused === undefined ? next : { ...next, volumes: before.volumes };
    if (!isDeepStrictEqual(named(name, this.configs), wanted)) shape.changed = name;
    return shape;
  }

  /** One that could not be started yet: perhaps it can be as it is configured now. */
  private async tryAnew(config: GroupConfig): Promise<Shape> {
    await this.endAttempts(config.name);
    if (this.started.has(config.name)) return this.change(config);
    if (this.around.drain.aborted) return { changed: config.name };
    this.replace(config);
    await this.begin(config);
    return {};
  }

  private replace(config: GroupConfig): void {
    this.configs = this.configs.map((one) => (one.name === config.name ? config : one));
  }

  private async add(config: GroupConfig): Promise<{ name: string; error: AfterimageError | null }> {
    this.configs = [...this.configs, config];
    return { name: config.name, error: await this.begin(config) };
  }

  /** Ends the group, and forgets it. */
  private leave(config: GroupConfig): void {
    const { name } = config;
    if (this.leaving.has(name)) return;
    const forgotten = async (): Promise<void> => {
      await this.endAttempts(name);
      await this.endings.get(name);
      await this.end(config).catch((thrown: unknown) =>
        this.logOf(config).error({ err: toAfterimageError(thrown) }, 'at the end of the group'),
      );
      this.failed.delete(name);
      this.configs = this.configs.filter((one) => one !== config);
      this.leaving.delete(name);
      const next = this.returning.get(name);
      this.returning.delete(name);
      if (next !== undefined && !this.around.drain.aborted) await this.add(next);
    };
    this.leaving.set(name, forgotten());
  }

  /** Stops every group, whatever happens to the others. Errors: the first that one had. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await endAll(() => this.configs.map((config) => this.end(config)));
  }

  private mappedGroup(name: string): GroupConfig {
    const config = this.configs.find((one) => one.name === name);
    if (config === undefined) throw new AfterimageError('GROUP_UNKNOWN', `this agent has no group ${name}`);
    if (config.volumes.every(({ mapped }) => mapped === null))
      throw new AfterimageError('VOLUME_NOT_MAPPED', `group ${name} has no mapped volume`);
    return config;
  }

  /** Resolves when nobody tries to start it any more. */
  private async endAttempts(name: string): Promise<void> {
    this.enough.get(name)?.abort();
    await this.attempts.get(name);
  }

  private async end(config: GroupConfig): Promise<void> {
    const { name } = config;
    await Promise.race([this.attempts.get(name), aborted(this.around.end)]);
    const group = this.started.get(name);
    if (group === undefined) return;
    const log = this.logOf(config);
    try {
      if (await group.stop()) log.info('stopped');
      else log.warn('stopped; the next start compares with the receiver');
    } finally {
      this.started.delete(name); // what is closed cannot be asked for its status
      this.refused.delete(name);
    }
  }

  /** The first attempt; those that follow from its failure are owned here. */
  private begin(config: GroupConfig): Promise<AfterimageError | null> {
    const enough = new AbortController();
    this.enough.set(config.name, enough);
    const first = this.attempt(config);
    const last = first.then((error) =>
      error === null ? undefined : this.tryAgain(config, error, enough.signal),
    );
    this.attempts.set(config.name, last);
    return first;
  }

  /** Null: it is started. */
  private async attempt(config: GroupConfig): Promise<AfterimageError | null> {
    try {
      const group = await this.startGroup(config);
      if (this.around.end.aborted) {
        await group.stop();
        throw new AfterimageError('INTERRUPTED', 'the agent is stopping');
      }
      this.started.set(config.name, group);
      this.failed.delete(config.name);
      return null;
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      this.failed.set(config.name, error);
      return error;
    }
  }

  /** Until it is started, or everything stops. Never rejects. */
  private async tryAgain(config: GroupConfig, error: AfterimageError, enoughOf: AbortSignal): Promise<void> {
    const { clock, drain } = this.around;
    const log = this.logOf(config);
    if (error.code === 'VOLUME_NOT_INSERTED') {
      log.warn({ code: error.code }, `the group waits for its volumes: ${error.message}`);
      return;
    }
    log.error({ err: error }, 'the group cannot be started');
    const failed = ({ code, message }: AfterimageError): void =>
      log.warn({ code }, `the group still cannot be started: ${message}`);
    const enough = AbortSignal.any([drain, this.stopping.signal, enoughOf]);
    const attempt = async (): Promise<AfterimageError | null> => {
      const again = await this.attempt(config);
      return again?.code === 'VOLUME_NOT_INSERTED' ? null : again; // then it is asked for
    };
    if ((await retry(attempt, failed, clock, enough)) && this.started.has(config.name))
      log.info('the group is started after all');
  }

  private logOf({ name }: GroupConfig): Log {
    return this.around.log.child({ group: name });
  }
}

/** `error`: why it has not the volumes that it is configured with. */
function withRefusal(status: GroupStatus, error: AfterimageError | undefined): GroupStatus {
  if (error === undefined) return status;
  const refusal = `it goes on with the volumes that it had: ${error.code}: ${error.message}. ${error.hint}`;
  return { ...status, detail: [status.detail, refusal].filter((text) => text !== '').join('; ') };
}

/** What came of another configuration of one group. */
interface Shape {
  reshaped?: { name: string } & Reshaped;
  refused?: { name: string; error: AfterimageError };
  changed?: string;
}

/**
 * The volumes that a running group can have of `next`, in that order: one that is to be inserted waits for `volume insert`, and one
 * that is inserted stays until `volume remove`. Errors: CONFIG_INVALID when that leaves none.
 */
function wantedOf(before: readonly VolumeConfig[], next: readonly VolumeConfig[]): VolumeConfig[] {
  const isThere = ({ name }: VolumeConfig, all: readonly VolumeConfig[]): boolean =>
    all.some((volume) => volume.name === name);
  const held = before.filter((volume) => volume.mapped !== null && !isThere(volume, next));
  const wanted = [...next.filter((volume) => volume.mapped === null || isThere(volume, before)), ...held];
  if (wanted.length > 0) return wanted;
  const message = 'a group has one volume at least, and what is to be inserted does not count';
  throw new AfterimageError('CONFIG_INVALID', message);
}

function named(name: string, all: readonly GroupConfig[]): GroupConfig | undefined {
  return all.find((one) => one.name === name);
}

function partition<T>(all: readonly T[], is: (one: T) => boolean): [T[], T[]] {
  return [all.filter(is), all.filter((one) => !is(one))];
}
