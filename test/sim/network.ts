/**
 * The network between the model daemons: connections that deliver in order, with delays, until they break. On top of
 * that it can do to single messages what TCP never does: lose, repeat and reorder them inside a stream. A session has to
 * refuse what comes in another order than it was sent; `outOfOrder` judges that.
 */
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/** What may go wrong with a message, each with its probability. */
export interface NetworkFaults {
  lose: number;
  repeat: number;
  reorder: number;
}

/** Longest that a message is held back, counted in messages that overtake it. */
const OVERTAKERS_MAX = 6;

/** Frames are numbered by their LSNs, other messages by their sequence: each of the two has an order of its own. */
type Lane = 'frames' | 'messages';

interface Held<Out> {
  message: Out;
  number: number;
  overtakers: number;
}

/** One end of a connection. */
export class Endpoint<Out, In> {
  onMessage: (message: In) => void = () => undefined;
  onClosed: () => void = () => undefined;
  /** Until its owner has said Goodbye: what comes then, in whatever order, is looked at no more. */
  isListening = true;
  #isOpen = true;
  #busyUntil = 0;
  /** Held back so that the next messages overtake them. */
  #held: Held<Out>[] = [];
  #peer: Endpoint<In, Out> | null = null;
  readonly #sent: Record<Lane, number> = { frames: 0, messages: 0 };
  readonly #delivered: Record<Lane, number> = { frames: 0, messages: 0 };

  constructor(
    private readonly scheduler: Scheduler,
    private readonly random: Random,
    private readonly faults: NetworkFaults,
    /** Longest delay of a message, ms, as it is now. */
    private readonly delayMsMax: () => number,
    private readonly onFault: (kind: string) => void,
    /** Delivers a message that is not the next one of its lane: whoever gets it has to refuse it. */
    private readonly outOfOrder: (deliver: () => void) => void,
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
    const number = (this.#sent[laneOf(message)] += 1);
    if (random.chance(faults.lose)) return this.onFault('messageLost');
    if (random.chance(faults.reorder)) {
      const overtakers = random.int(1, OVERTAKERS_MAX);
      this.#held.push({ message, number, overtakers });
      return this.onFault(overtakers === 1 ? 'messageReordered' : 'messageHeldBack');
    }
    this.#transmit(message, number);
    for (const held of this.#held) held.overtakers -= 1;
    for (const held of this.#held.filter(({ overtakers }) => overtakers === 0)) {
      this.#transmit(held.message, held.number);
    }
    this.#held = this.#held.filter(({ overtakers }) => overtakers > 0);
    if (random.chance(faults.repeat)) {
      this.onFault('messageRepeated');
      this.#transmit(message, number);
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

  #transmit(message: Out, number: number): void {
    const at = Math.max(this.#busyUntil, this.scheduler.nowMs + this.random.int(1, this.delayMsMax()));
    this.#busyUntil = at;
    const peer = this.#peer;
    this.scheduler.after(at - this.scheduler.nowMs, () => {
      if (peer !== null && peer.#isOpen) peer.#receive(message, number);
    });
  }

  #receive(message: In, number: number): void {
    const lane = laneOf(message);
    const isNext = number === this.#delivered[lane] + 1;
    this.#delivered[lane] = number;
    if (isNext || !this.isListening) this.onMessage(message);
    else this.outOfOrder(() => this.onMessage(message));
  }
}

function laneOf(message: unknown): Lane {
  return typeof message === 'object' && message !== null && 'frame' in message ? 'frames' : 'messages';
}
