/**
 * The protection groups of this host. One that cannot start takes no other down, nor keeps it waiting: the rest is served,
 * and it is tried again until it can. Only when none starts there is nothing to do here.
 */
import type {
  CheckpointInfo,
  GroupStatus,
  VerificationProgress,
  VerificationRequest,
} from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { aborted } from '../service/signals.js';
import type { Clock } from './clock.js';
import type { GroupConfig } from './config.js';
import { endAll } from './endings.js';
import { failedStatus } from './group_status.js';
import { retry } from './retry.js';

/** A group that was started. */
export interface StartedGroup {
  readonly isConnected: boolean;
  status(): GroupStatus;
  createCheckpoint(name: string): Promise<CheckpointInfo>;
  verify(
    request: Omit<VerificationRequest, 'group'>,
    signal: AbortSignal,
  ): AsyncGenerator<VerificationProgress, void>;
  /** Tells whether the next start can go on where this one ended. */
  stop(): Promise<boolean>;
}
export interface GroupsSurroundings {
  host: string;
  clock: Clock;
  log: Log;
  /** Aborted when no group is to be started any more. */
  drain: AbortSignal;
  /** Whether production is served in any case: then groups are tried again also when none could be started. */
  isServing: boolean;
}

export class ProtectionGroups {
  /** The first attempts are over. Errors: what start() throws. */
  readonly ready: Promise<void>;
  private onReady!: (error: AfterimageError | null) => void;
  private readonly started = new Map<string, StartedGroup>();
  private readonly failed = new Map<string, AfterimageError>();
  /** By group: over when it is started, or is not to be any more. They never reject. */
  private readonly attempts = new Map<string, Promise<void>>();
  private readonly stopping = new AbortController();

  constructor(
    private readonly configs: readonly GroupConfig[],
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
    if (first !== undefined && this.started.size === 0 && !isServing) {
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
      if (error !== undefined) return [failedStatus(config, this.around.host, error)];
      return this.started.get(config.name)?.status() ?? [];
    });
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

  /** Stops every group, whatever happens to the others. Errors: the first that one had. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await endAll(() => this.configs.map((config) => this.end(config)));
  }

  private async end(config: GroupConfig): Promise<void> {
    await this.attempts.get(config.name);
    const group = this.started.get(config.name);
    if (group === undefined) return;
    const log = this.logOf(config);
    try {
      if (await group.stop()) log.info('stopped');
      else log.warn('stopped; the next start compares with the receiver');
    } finally {
      this.started.delete(config.name); // what is closed cannot be asked for its status
    }
  }

  /** The first attempt; those that follow from its failure are owned here. */
  private begin(config: GroupConfig): Promise<AfterimageError | null> {
    const first = this.attempt(config);
    const last = first.then((error) => (error === null ? undefined : this.tryAgain(config, error)));
    this.attempts.set(config.name, last);
    return first;
  }

  /** Null: it is started. */
  private async attempt(config: GroupConfig): Promise<AfterimageError | null> {
    try {
      this.started.set(config.name, await this.startGroup(config));
      this.failed.delete(config.name);
      return null;
    } catch (thrown) {
      const error = toAfterimageError(thrown);
      this.failed.set(config.name, error);
      return error;
    }
  }

  /** Until it is started, or everything stops. Never rejects. */
  private async tryAgain(config: GroupConfig, error: AfterimageError): Promise<void> {
    const { clock, drain } = this.around;
    const log = this.logOf(config);
    log.error({ err: error }, 'the group cannot be started');
    const failed = ({ code, message }: AfterimageError): void =>
      log.warn({ code }, `the group still cannot be started: ${message}`);
    const enough = AbortSignal.any([drain, this.stopping.signal]);
    if (await retry(() => this.attempt(config), failed, clock, enough))
      log.info('the group is started after all');
  }

  private logOf({ name }: GroupConfig): Log {
    return this.around.log.child({ group: name });
  }
}
