/**
 * Of which dirty logs a receiver has on stable storage that they are void, as an agent's session knows. One that is void
 * stays so for as long as the volume is there. Pure.
 */
import type { DirtyLogPosition } from '../proto/replication.js';

export class LogClaims {
  /** Sent on this connection. The Hello counts as number 0. */
  #heartbeats = 0;
  /** By volume: the first on this connection to say that its log is void. */
  readonly #said = new Map<number, number>();
  readonly #known = new Set<number>();

  hello(logs: readonly DirtyLogPosition[]): void {
    this.#heartbeats = 0;
    this.#said.clear();
    this.#say(logs);
  }
  welcome(): void {
    this.#stored(0);
  }
  heartbeat(logs: readonly DirtyLogPosition[]): void {
    this.#heartbeats += 1;
    this.#say(logs);
  }
  /** Null, or what is wrong with it: so many heartbeats were never sent. */
  ack(heartbeats: number): string | null {
    if (heartbeats > this.#heartbeats)
      return `${heartbeats} heartbeats are acknowledged, ${this.#heartbeats} were sent`;
    this.#stored(heartbeats);
    return null;
  }

  /** The volumes are these from now on. */
  keep(volumes: readonly number[]): void {
    for (const volume of this.#known) if (!volumes.includes(volume)) this.#known.delete(volume);
    for (const volume of this.#said.keys()) if (!volumes.includes(volume)) this.#said.delete(volume);
  }

  isVoid(volume: number): boolean {
    return this.#known.has(volume);
  }

  #say(logs: readonly DirtyLogPosition[]): void {
    for (const { volume, id } of logs)
      if (id === 0n && !this.#said.has(volume)) this.#said.set(volume, this.#heartbeats);
  }
  #stored(upto: number): void {
    for (const [volume, number] of this.#said) if (number <= upto) this.#known.add(volume);
  }
}
