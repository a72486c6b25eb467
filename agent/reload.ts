/** The configuration, read again while the agent runs. What is wrong with it changes nothing. */
import { isDeepStrictEqual } from 'node:util';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import { refuseSelfHolding } from './backing.js';
import type { AgentConfig } from './config.js';
import type { ProtectionGroups } from './groups.js';

export class Reload {
  private running: Promise<void> = Promise.resolve();

  constructor(
    private readonly load: () => Promise<AgentConfig>,
    /** As the agent runs with it. */
    private readonly present: AgentConfig,
    private readonly groups: Pick<ProtectionGroups, 'reload'>,
    private readonly notify: (assignments: string) => void,
    private readonly log: Log,
  ) {}

  /** One after the other. Resolves when the new groups have been tried once. Never rejects. */
  run(): Promise<void> {
    this.running = this.running.then(async () => {
      try {
        this.notify('RELOADING=1');
        await this.runOnce();
      } catch (thrown) {
        const { code, message } = toAfterimageError(thrown);
        this.log.error({ code }, `the configuration is not taken, and all goes on as it was: ${message}`);
      } finally {
        this.notify('READY=1');
      }
    });
    return this.running;
  }

  private async runOnce(): Promise<void> {
    const next = await this.load();
    await refuseSelfHolding(next);
    const { added, returning, removed, held, reshaped, refused, changed } = await this.groups.reload(
      next.groups,
    );
    for (const { name, error } of added)
      this.log.info(
        { group: name, ...(error === null ? {} : { code: error.code }) },
        'the configuration has another group',
      );
    for (const group of returning)
      this.log.info(
        { group },
        'the group begins as it is configured now when the one of that name has ended',
      );
    for (const group of removed)
      this.log.info(
        { group },
        'the configuration has the group no more: it ends when nobody uses its volumes',
      );
    for (const group of held)
      this.log.warn(
        { group },
        'the group goes on: protection is under its volumes (`afterimage volume remove`), or they are served and it could not be started yet',
      );
    for (const { name, added, leaving } of reshaped)
      this.log.info(
        { group: name, added, leaving },
        'the group has other volumes: those that it has no more end when nobody uses them',
      );
    for (const { name, error } of refused)
      this.log.error(
        { group: name, code: error.code },
        `the group goes on with the volumes that it had: ${error.message}`,
      );
    for (const group of changed)
      this.log.warn(
        { group },
        'the group goes on: what else is new in it counts after a hand-over (SIGUSR2), or a stop and a start',
      );
    const waiting = this.waiting(next);
    if (waiting.length > 0)
      this.log.warn({ settings: waiting }, 'these count after a hand-over (SIGUSR2), or a stop and a start');
    this.log.info(
      { added: added.length, removed: removed.length, changed: reshaped.length },
      'the configuration was read again',
    );
  }

  /** Settings that are not those of groups, and other than those that the agent runs with. */
  private waiting(next: AgentConfig): string[] {
    return Object.entries(this.present)
      .filter(([key, value]) => key !== 'groups' && !isDeepStrictEqual(value, next[key as keyof AgentConfig]))
      .map(([key]) => key);
  }
}
