/**
 * What an agent's process does before anything else: it serves what a predecessor served. Production waits meanwhile, and
 * most of that time goes by while modules are loaded: so what is imported from here, however indirectly, reads no
 * configuration, speaks to no receiver, and is little (test/house/takeover_imports.test.ts).
 */
import * as native from '../native/index.js';
import { createLog, type Log } from '../service/log.js';
import { aborted, type StopSignals } from '../service/signals.js';
import { systemClock } from './clock.js';
import { endAll } from './endings.js';
import { HAND_OVER_SIGNAL, HandOver } from './hand_over.js';
import { sortInheritance } from './inheritance.js';
import { LONG_LIFE_MS, ShortLives } from './short_lives.js';
import { TakenGroup } from './takeover.js';

export class Succession {
  /** Groups whose production is served, by name. Whoever goes on with one takes it out. */
  readonly taken = new Map<string, TakenGroup>();
  private readonly livesLong: NodeJS.Timeout;
  private readonly handOver: HandOver;
  private isOver = false;
  /** Something in the store is another version's. */
  private isRescueAwaited = false;

  private constructor(
    private readonly lives: ShortLives,
    drain: AbortSignal,
    private readonly log: Log,
  ) {
    // An exception that nobody caught would end the process, and with it the threads that serve production (R7). It is not
    // one of a group's session: those are caught where they are thrown, and cost the session (member.ts).
    process.on('uncaughtException', this.onDefect);
    const isRescue = (): boolean => this.isRescueAwaited;
    this.handOver = new HandOver({ log, drain, isRescue, ending: () => this.lives.end() });
    this.livesLong = setTimeout(() => this.lives.end(), LONG_LIFE_MS).unref();
    if (lives.isHopeless) clearTimeout(this.livesLong);
  }

  /**
   * Serves what a predecessor served, if there was one. A volume that cannot be served keeps waiting only whoever uses it.
   * After `drain` nothing is handed over any more. Errors: those of TakenGroup.open.
   */
  static async begin(drain: AbortSignal, log: Log = createLog('agent', 'info')): Promise<Succession> {
    for (const warning of native.protectIoProcess()) log.warn({ warning }, 'the I/O path is less protected');
    const { lives, rest } = ShortLives.begin(native.takeStoredDescriptors(), native);
    const succession = new Succession(lives, drain, log);
    try {
      await succession.takeOverAll(rest);
      lives.serving();
      return succession;
    } catch (thrown) {
      succession.dispose();
      throw thrown;
    }
  }

  /** Whether nothing is to be done but to serve: what was done beside that has killed too many. */
  get isHopeless(): boolean {
    return this.lives.isHopeless;
  }

  /** Only serves, and protects nothing, until `signals` tell to stop. Does nothing when it has ended. */
  async serveOnly(signals: StopSignals, why: string = this.lives.text): Promise<void> {
    if (this.isOver) return;
    this.log.fatal(`${why}: this process only serves, and protects nothing, until ${HAND_OVER_SIGNAL}`);
    // Threads and signals alone do not keep Node from ending the process.
    const staying = setInterval(() => undefined, LONG_LIFE_MS);
    try {
      await aborted(signals.drain);
    } finally {
      clearInterval(staying);
      await this.end(signals.end);
    }
  }

  /** Takes away what nobody has gone on with, once nobody uses it or `end` aborts. */
  async end(end: AbortSignal): Promise<void> {
    this.isOver = true;
    await endAll(() => [...this.taken.values()].map((group) => group.letGo(end))).finally(() =>
      this.dispose(),
    );
  }

  private dispose(): void {
    this.lives.end();
    clearTimeout(this.livesLong);
    process.off('uncaughtException', this.onDefect);
    this.handOver.dispose();
  }

  private async takeOverAll(descriptors: readonly native.StoredDescriptor[]): Promise<void> {
    const { lives, log } = this;
    const { groups, useless } = sortInheritance(descriptors);
    if (lives.isRingSuspect) {
      log.fatal(`${lives.text}: what they had captured and not sent is given up`);
      for (const group of groups) group.isRingSuspect = true;
    }
    // All rings before any volume: an error leaves nobody half served.
    const taken = groups.map((group) =>
      TakenGroup.open(group, native, systemClock, log.child({ group: group.settings.name })),
    );
    for (const group of taken) this.taken.set(group.settings.name, group);
    await Promise.all(taken.map((group) => group.serve()));
    for (const { name, reason, isWorthless } of useless) {
      log.error({ descriptor: name, reason }, 'a descriptor that a predecessor left is of no use');
      if (isWorthless) native.forgetDescriptor(name);
      else this.isRescueAwaited = true;
    }
  }

  private readonly onDefect = (error: unknown): void =>
    this.log.fatal({ err: error }, 'a defect: please report it');
}
