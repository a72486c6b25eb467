/**
 * The protection groups of this host. One that cannot start takes no other down: the rest is served, and it is tried
 * again until it can. Only when none starts there is nothing to do here.
 */
import type { CheckpointInfo, GroupStatus } from '../proto/control.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';
import type { GroupConfig } from './config.js';
import { failedStatus } from './group_status.js';

const RETRY_MS_MIN = 5_000;
const RETRY_MS_MAX = 60_000;

/** A group that was started. */
export interface StartedGroup {
  readonly isConnected: boolean;
  status(): GroupStatus;
  createCheckpoint(name: string): Promise<CheckpointInfo>;
  /** Tells whether the next start can go on where this one ended. */
  stop(): Promise<boolean>;
}
export interface GroupsSurroundings {
  host: string;
  clock: Clock;
  log: Log;
  /** Aborted when no group is to be started any more. */
  drain: AbortSignal;
}

export class ProtectionGroups {
  /** The first attempts are over. Errors: what start() throws. */
  readonly ready: Promise<void>;
  private onReady!: (error: AfterimageError | null) => void;
  private readonly started = new Map<string, StartedGroup>();
  private readonly failed = new Map<string, AfterimageError>();
  private readonly retries: Promise<void>[] = [];
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

  /** Tries every group once, one after the other. Errors: the first that a group had, if none starts. */
  async start(): Promise<void> {
    const { drain } = this.around;
    let first: AfterimageError | null = null;
    for (const config of this.configs) {
      if (drain.aborted) break;
      const error = await this.attempt(config);
      if (error !== null) this.logOf(config).error({ err: error }, 'the group cannot be started');
      first ??= error;
    }
    if (first !== null && this.started.size === 0) {
      this.onReady(first);
      throw first;
    }
    for (const config of this.configs)
      if (this.failed.has(config.name)) this.retries.push(this.retry(config));
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
    const found = this.started.get(group);
    if (found !== undefined) return found.createCheckpoint(name);
    throw this.failed.get(group) ?? new AfterimageError('GROUP_UNKNOWN', `this agent has no group ${group}`);
  }

  /** Stops every group, whatever happens to the others. Errors: the first that one had. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await Promise.all(this.retries);
    const ends = await Promise.allSettled([...this.started].map(([name, group]) => this.end(name, group)));
    for (const end of ends) if (end.status === 'rejected') throw toAfterimageError(end.reason);
  }

  private async end(name: string, group: StartedGroup): Promise<void> {
    const log = this.around.log.child({ group: name });
    try {
      if (await group.stop()) log.info('stopped');
      else log.warn('stopped; the next start compares with the receiver');
    } finally {
      this.started.delete(name); // what is closed cannot be asked for its status
    }
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
  private async retry(config: GroupConfig): Promise<void> {
    const { clock, drain } = this.around;
    const log = this.logOf(config);
    const enough = AbortSignal.any([drain, this.stopping.signal]);
    for (let pauseMs = RETRY_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, RETRY_MS_MAX)) {
      await clock.sleep(pauseMs, enough).catch(() => undefined);
      if (enough.aborted) return;
      const error = await this.attempt(config);
      if (error === null) return log.info('the group is started after all');
      log.warn({ code: error.code }, `the group still cannot be started: ${error.message}`);
    }
  }

  private logOf({ name }: GroupConfig): Log {
    return this.around.log.child({ group: name });
  }
}
