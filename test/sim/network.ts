/**
 * The network between the model daemons: connections that deliver in order, with delays, until they break. On top of
 * that it can do to single messages what TCP never does: lose, repeat and reorder them inside a stream.
 */
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/** What may go wrong with a message, each with its probability. */
export interface NetworkFaults {
  lose: number;
  repeat: number;
  reorder: number;
}

/** One end of a connection. */
export class Endpoint<Out, In> {
  onMessage: (message: In) => void = () => undefined;
  onClosed: () => void = () => undefined;
  #isOpen = true;
  #busyUntil = 0;
  /** Held back so that the next message overtakes it. */
  #held: Out | null = null;
  #peer: Endpoint<In, Out> | null = null;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly random: Random,
    private readonly faults: NetworkFaults,
    /** Longest delay of a message, ms, as it is now. */
    private readonly delayMsMax: () => number,
    private readonly onFault: (kind: string) => void,
  ) {}

  static connect<A, B>(a: Endpoint<A, B>, b: Endpoint<B, A>): void {
    a.#peer = b;
    b.#peer = a;
  }

  /** `sent` is called when the transport has taken the message over. */
  send(message: Out, sent: () => void = () => undefined): void {
    if (!this.#isOpen) return;
    const { faults, random } = this;
    this.scheduler.after(random.int(0, 3), () => {
      if (this.#isOpen) sent();
    });
    if (random.chance(faults.lose)) return this.onFault('messageLost');
    if (this.#held === null && random.chance(faults.reorder)) {
      this.#held = message;
      return this.onFault('messageReordered');
    }
    this.#transmit(message);
    if (this.#held !== null) this.#transmit(this.#held);
    this.#held = null;
    if (random.chance(faults.repeat)) {
      this.onFault('messageRepeated');
      this.#transmit(message);
    }
  }

  /** What is on its way in either direction is lost; with `gently` what was sent still arrives. */
  close(gently = false): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const peer = this.#peer;
    this.scheduler.after(0, () => this.onClosed());
    if (!gently) return peer?.close();
    this.scheduler.after(Math.max(0, this.#busyUntil - this.scheduler.nowMs), () => peer?.close());
  }

  #transmit(message: Out): void {
    const at = Math.max(this.#busyUntil, this.scheduler.nowMs + this.random.int(1, this.delayMsMax()));
    this.#busyUntil = at;
    const peer = this.#peer;
    this.scheduler.after(at - this.scheduler.nowMs, () => {
      if (peer !== null && peer.#isOpen) peer.onMessage(message);
    });
  }
}
