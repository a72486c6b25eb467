/**
 * How often the agent died young: kept in the descriptor store, since a process that dies can remember nothing else. What
 * kills each successor is taken away from the next, one thing after the other, so that production goes on.
 */
import { closeSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import type { StoredDescriptor } from '../native/index.js';
import type { StoreDoor } from './custody.js';

const NAME = 'short-lives';
/** So many processes in a row were never ready: perhaps the inherited ring is what kills them. */
const UNREADY_MAX = 3;
/** So many in a row died within LONG_LIFE_MS, ready or not: perhaps whatever they do beside serving kills them. */
const SHORT_MAX = 30;
/** Production lives through the death of an agent, and the next one is no worse than the one before. */
export const LONG_LIFE_MS = 60_000;

const countsSchema = z.strictObject({ unready: z.int().min(0), short: z.int().min(0) });
type Counts = z.output<typeof countsSchema>;

export class ShortLives {
  private constructor(
    private readonly door: StoreDoor,
    private counts: Counts,
  ) {}

  /** Takes its own out of `descriptors`, and counts the life that begins. */
  static begin(
    descriptors: readonly StoredDescriptor[],
    door: StoreDoor,
  ): { lives: ShortLives; rest: StoredDescriptor[] } {
    let before: Counts = { unready: 0, short: 0 };
    const rest: StoredDescriptor[] = [];
    for (const one of descriptors) {
      if (one.name !== NAME) rest.push(one);
      else before = read(one.descriptor) ?? before;
    }
    const lives = new ShortLives(door, before);
    // A first life has nothing to lose: nobody is served yet.
    if (rest.length > 0) lives.keep({ unready: before.unready + 1, short: before.short + 1 });
    else if (descriptors.length > 0) lives.end();
    return { lives, rest };
  }

  /** The ring of the predecessor is better left alone. */
  get isRingSuspect(): boolean {
    return this.counts.unready > UNREADY_MAX;
  }
  /** Nothing is to be done but to serve. */
  get isHopeless(): boolean {
    return this.counts.short > SHORT_MAX;
  }
  get text(): string {
    return `${this.counts.short} processes in a row died young, ${this.counts.unready} of them before they were ready`;
  }

  ready(): void {
    if (this.counts.unready > 0) this.keep({ ...this.counts, unready: 0 });
  }
  /** This one has lived long, or whoever ends it wants the next one to do as if it had. */
  end(): void {
    this.counts = { unready: 0, short: 0 };
    if (this.door.hasServiceManager()) this.door.forgetDescriptor(NAME);
  }

  private keep(counts: Counts): void {
    this.counts = counts;
    if (!this.door.hasServiceManager()) return;
    const memory = this.door.makeSealedMemory('afterimage-lives', Buffer.from(JSON.stringify(counts)));
    try {
      this.door.forgetDescriptor(NAME);
      this.door.storeDescriptor(NAME, memory);
    } finally {
      closeSync(memory);
    }
  }
}

/** Null: nothing that counts. */
function read(descriptor: number): Counts | null {
  try {
    return countsSchema.parse(JSON.parse(readFileSync(`/proc/self/fd/${descriptor}`, 'utf8')));
  } catch {
    return null;
  } finally {
    closeSync(descriptor);
  }
}
