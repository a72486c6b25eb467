/** What an agent's session knows that the receiver has on stable storage of its dirty logs. Pure. */
import type { DirtyLogPosition } from '../proto/replication.js';

export class LogClaims {
  /** Sent on this connection; the Hello comes before all of them. */
  #sent: { logs: DirtyLogPosition[]; heartbeats: number } = { logs: [], heartbeats: 0 };
  #known: DirtyLogPosition[] = [];

  hello(logs: DirtyLogPosition[]): void {
    this.#sent = { logs, heartbeats: 0 };
  }
  welcome(): void {
    this.#known = this.#sent.logs;
  }
  heartbeat(logs: DirtyLogPosition[]): void {
    this.#sent = { logs, heartbeats: this.#sent.heartbeats + 1 };
  }
  /** Null, or what is wrong with it: so many heartbeats were never sent. */
  ack(heartbeats: number): string | null {
    const { logs, heartbeats: sent } = this.#sent;
    if (heartbeats > sent) return `${heartbeats} heartbeats are acknowledged, ${sent} were sent`;
    // An earlier one's positions are known too, and soon these.
    if (heartbeats > 0 && heartbeats === sent) this.#known = logs;
    return null;
  }

  isVoid(volume: number): boolean {
    return this.#known.some((log) => log.volume === volume && log.id === 0n);
  }
}
