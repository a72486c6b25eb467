/**
 * Who reads which points of a member, and who moves its bases: what retention must not take away under anybody.
 *
 * A base may be moved to an LSN while points at or behind it are open: they find in their segments all that changes in
 * it. So a reader holds its LSN, and nothing more, for as long as it may open or have open what it reads; and what is
 * being opened this moment is waited for before files go.
 */
export type Release = () => void;

/** What keeps a member's history from being shortened. */
export interface Hold {
  /** The base may not be moved beyond it. */
  lsn: bigint;
  /** "export 78005a11": for people. */
  who: string;
}

/** A roll-forward under way. It asks `isStopped` between its steps. */
export interface Roll {
  readonly isStopped: boolean;
  end(): void;
}

export class BaseAccess {
  private readonly holds = new Map<string, Set<Hold>>();
  private readonly opening = new Map<string, Set<Promise<unknown>>>();
  private readonly rolls = new Map<string, { stop: () => void; ended: Promise<void> }>();
  /** Members whose journal is being opened, by how many. */
  private readonly barred = new Map<string, number>();

  /** Keeps the point `lsn` of a member, and all behind it, until the release is called. */
  hold(member: string, lsn: bigint, who: string): Release {
    const hold = { lsn, who };
    return entered(this.holds, member, hold);
  }

  /** The hold that reaches back furthest, or null. */
  oldest(member: string): Hold | null {
    let oldest: Hold | null = null;
    for (const hold of this.holds.get(member) ?? []) {
      if (oldest === null || hold.lsn < oldest.lsn) oldest = hold;
    }
    return oldest;
  }

  /** Runs `open`, which finds files of these members by the catalog: they stay until it has ended. */
  async whileOpening<T>(members: readonly string[], open: () => Promise<T>): Promise<T> {
    const opened = open();
    const settled = opened.catch(() => undefined);
    const releases = members.map((member) => entered<Promise<unknown>>(this.opening, member, settled));
    try {
      return await opened;
    } finally {
      for (const release of releases) release();
    }
  }

  /** Resolves when all that was being opened is. What is opened later knows the catalog as it is now. */
  async opened(member: string): Promise<void> {
    await Promise.all([...(this.opening.get(member) ?? [])]);
  }

  /** The bases of the member begin to be moved, by nobody else; null while its journal is being opened. */
  beginRoll(member: string): Roll | null {
    if (this.barred.has(member)) return null;
    if (this.rolls.has(member)) throw new Error(`the bases of ${member} are being moved already`);
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const roll = {
      isStopped: false,
      end: () => {
        this.rolls.delete(member);
        end();
      },
    };
    this.rolls.set(member, { stop: () => (roll.isStopped = true), ended });
    return roll;
  }

  /** Runs `work`, which sets catalog and directory of the member right by each other, while nothing moves its bases. */
  async withoutRoll<T>(member: string, work: () => Promise<T>): Promise<T> {
    this.barred.set(member, (this.barred.get(member) ?? 0) + 1);
    try {
      await this.stopRoll(member);
      return await work();
    } finally {
      const left = (this.barred.get(member) ?? 1) - 1;
      if (left > 0) this.barred.set(member, left);
      else this.barred.delete(member);
    }
  }

  /**
   * Ends what moves the bases of the member; it begins anew later, by the catalog as it is then. Wanted before a
   * generation begins: if damage was found, what its volumes are compared with must not change any more.
   */
  async stopRoll(member: string): Promise<void> {
    const roll = this.rolls.get(member);
    roll?.stop();
    await roll?.ended;
  }
}

/** Puts `item` into the member's set, until the release is called. */
function entered<T>(sets: Map<string, Set<T>>, member: string, item: T): Release {
  const set = sets.get(member) ?? new Set<T>();
  sets.set(member, set);
  set.add(item);
  return () => {
    set.delete(item);
    if (set.size === 0 && sets.get(member) === set) sets.delete(member);
  };
}
