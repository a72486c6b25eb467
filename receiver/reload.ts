/** The configuration, read again while the receiver runs. What is wrong with it changes nothing. */
import { isDeepStrictEqual } from 'node:util';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { ReceiverConfig } from './config.js';

/** Looked up whenever it matters. */
const AT_ONCE = ['retention', 'groups'] as const satisfies (keyof ReceiverConfig)[];

export class Reload {
  private running: Promise<void> = Promise.resolve();

  constructor(
    /** How long history is held is as it says; the rest is as the receiver was started. */
    public present: ReceiverConfig,
    private readonly load: () => Promise<ReceiverConfig>,
    private readonly log: Log,
  ) {}

  /** One after the other. Never rejects. */
  run(): Promise<void> {
    this.running = this.running.then(async () => {
      try {
        this.take(await this.load());
      } catch (thrown) {
        const { code, message } = toAfterimageError(thrown);
        this.log.error({ code }, `the configuration is not taken, and all goes on as it was: ${message}`);
      }
    });
    return this.running;
  }

  private take(next: ReceiverConfig): void {
    const differing = (Object.keys(next) as (keyof ReceiverConfig)[]).filter(
      (key) => !isDeepStrictEqual(this.present[key], next[key]),
    );
    const waiting = differing.filter((key) => !(AT_ONCE as readonly string[]).includes(key));
    const { retention, groups } = next;
    this.present = { ...this.present, retention, groups };
    if (waiting.length > 0) this.log.warn({ settings: waiting }, 'these count after a restart');
    this.log.info(
      { settings: differing.filter((key) => !waiting.includes(key)) },
      'the configuration was read again',
    );
  }
}
