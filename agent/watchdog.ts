/**
 * Tells the service manager that the agent is alive (sd_watchdog_enabled(3)), as long as the event loop turns and no volume has
 * requests that are stuck in this program. A backing that hangs is no reason: another process would wait for it as well.
 */
import type { DeviceActivity } from '../native/index.js';
import type { Log } from '../service/log.js';
import type { Check } from '../service/metrics_server.js';

/** A dirty log gives a disk that hangs twenty seconds, and makes others wait for ten more. */
export const STUCK_MS = 45_000;
/** Of the service manager's patience, how often it is told. */
const SHARE = 1 / 3;
const LOOK_MS = 5_000;

export interface VolumeActivity extends DeviceActivity {
  /** How a message names the volume. */
  title: string;
}
export interface WatchdogParts {
  volumes: () => VolumeActivity[];
  /** Tells the service manager. */
  notify: (assignments: string) => void;
  nowMs: () => number;
  log: Log;
}

export class Watchdog {
  /** By title: how many requests had ended, and since when none has although some are under way. */
  private readonly still = new Map<string, { ended: bigint; sinceMs: number }>();
  private stuck: string[] = [];
  private timer: NodeJS.Timeout | null = null;

  /** `patienceMs`: of the service manager; null: it has none, and is not told. */
  constructor(
    private readonly patienceMs: number | null,
    private readonly parts: WatchdogParts,
  ) {}

  start(): void {
    const everyMs = this.patienceMs === null ? LOOK_MS : this.patienceMs * SHARE;
    this.look();
    this.timer = setInterval(() => this.look(), everyMs);
  }
  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
  }

  /** For /livez. */
  checks(): Check[] {
    const fault = this.stuck.length === 0 ? null : `requests of ${this.stuck.join(', ')} make no progress`;
    return [
      { name: 'event loop', fault: null },
      { name: 'I/O', fault },
    ];
  }

  look(): void {
    const { volumes, nowMs, notify, log } = this.parts;
    const now = nowMs();
    const before = this.stuck.length;
    const present = volumes();
    this.stuck = present.filter((volume) => this.isStuck(volume, now)).map(({ title }) => title);
    const gone = [...this.still.keys()].filter((title) => !present.some((volume) => volume.title === title));
    for (const title of gone) this.still.delete(title);
    if (this.stuck.length > 0 && before === 0)
      log.fatal({ volumes: this.stuck }, 'requests make no progress: the watchdog is told no more');
    if (this.stuck.length === 0 && this.patienceMs !== null) notify('WATCHDOG=1');
  }

  private isStuck({ title, underWay, atBacking, ended }: VolumeActivity, nowMs: number): boolean {
    if (underWay === 0 || atBacking > 0) {
      this.still.delete(title);
      return false;
    }
    const since = this.still.get(title);
    if (since?.ended !== ended) {
      this.still.set(title, { ended, sinceMs: nowMs });
      return false;
    }
    return nowMs - since.sinceMs >= STUCK_MS;
  }
}
