/**
 * How often the agent died young: kept in the descriptor store, since a process that dies can remember nothing else. What
 * kills each successor is taken away from the next, one thing after the other, so that production goes on.
 */
import { closeSync, readFileSync } from 'node:fs';
import type { StoredDescriptor } from '../native/index.js';
import type { StoreDoor } from './custody.js';
import { record, whole } from './stored_fields.js';

/** Two, so that one is there whenever the process dies: the new one is stored before the old one is forgotten. */
const NAMES = ['short-lives-a', 'short-lives-b'] as const;
/** So many processes in a row died before they served: perhaps the inherited ring is what kills them. */
const UNSERVED_MAX = 10;
/** So many in a row died within LONG_LIFE_MS: perhaps whatever they do beside serving kills them. */
const SHORT_MAX = 30;
/** Production lives through the death of an agent, and the next one is no worse than the one before. */
export const LONG_LIFE_MS = 60_000;

const countsField = record({ unserved: whole(0), short: whole(0) });
type Counts = ReturnType<typeof countsField>;

export class ShortLives {
  /** Under which of the names the counts are kept. */
  private name = 0;

  private constructor(
    private readonly door: StoreDoor,
    private counts: Counts,
  ) {}

  /** Takes its own out of `descriptors`, and counts the life that begins. */
  static begin(
    descriptors: readonly StoredDescriptor[],
    door: StoreDoor,
  ): { lives: ShortLives; rest: StoredDescriptor[] } {
    let before: Counts = { unserved: 0, short: 0 };
    const rest: StoredDescriptor[] = [];
    for (const one of descriptors) {
      if (!NAMES.some((name) => name === one.name)) {
        rest.push(one);
        continue;
      }
      const found = read(one.descriptor);
      if (found !== null && found.short >= before.short) before = found;
    }
    const lives = new ShortLives(door, before);
    // A first life has nothing to lose: nobody is served yet.
    if (rest.length > 0) lives.keep({ unserved: before.unserved + 1, short: before.short + 1 });
    else if (descriptors.length > 0) lives.end();
    return { lives, rest };
  }

  /** The ring of the predecessor is better left alone. */
  get isRingSuspect(): boolean {
    return this.counts.unserved > UNSERVED_MAX;
  }
  /** Nothing is to be done but to serve. */
  get isHopeless(): boolean {
    return this.counts.short > SHORT_MAX;
  }
  get text(): string {
    return `${this.counts.short} processes in a row died young, ${this.counts.unserved} of them before they served`;
  }

  /** What was inherited is served. */
  serving(): void {
    if (this.counts.unserved > 0) this.keep({ ...this.counts, unserved: 0 });
  }
  /** This one has lived long, or whoever ends it wants the next one to do as if it had. */
  end(): void {
    this.counts = { unserved: 0, short: 0 };
    this.tell(() => {
      for (const name of NAMES) this.door.forgetDescriptor(name);
    });
  }

  private keep(counts: Counts): void {
    this.counts = counts;
    this.tell(() => {
      const memory = this.door.makeSealedMemory('afterimage-lives', Buffer.from(JSON.stringify(counts)));
      try {
        const [old, next] = this.name === 0 ? NAMES : [NAMES[1], NAMES[0]];
        this.door.forgetDescriptor(next); // a predecessor's
        this.door.storeDescriptor(next, memory);
        this.door.forgetDescriptor(old);
        this.name = 1 - this.name;
      } finally {
        closeSync(memory);
      }
    });
  }

  private tell(what: () => void): void {
    if (!this.door.hasServiceManager()) return;
    try {
      what();
    } catch {
      // A store that fails is told of where it matters (custody.ts); a count that is lost only puts the rescue off.
    }
  }
}

/** Null: nothing that counts. */
function read(descriptor: number): Counts | null {
  try {
    return countsField(JSON.parse(readFileSync(`/proc/self/fd/${descriptor}`, 'utf8')), 'the counts');
  } catch {
    return null;
  } finally {
    closeSync(descriptor);
  }
}
