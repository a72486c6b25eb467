/**
 * Work that must keep an order within its lane, while lanes go on beside each other. Work does not throw: it owns its
 * errors.
 */

/** Of one lane, beside each other. */
const BESIDE_MAX = 4;

interface Lane {
  /** Of everything given to it. */
  end: Promise<void>;
  /** Of the work that was given last to run alone; of that which was given since to run beside, in order. */
  alone: Promise<void>;
  beside: Promise<void>[];
}

export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  private readonly joined = new Set<Promise<void>>();

  /** Runs `work` after everything given to the lane before. */
  run(name: string, work: () => Promise<void>): void {
    const lane = this.lane(name);
    const end = lane.end.then(work);
    Object.assign(lane, { alone: end, beside: [] });
    this.ended(name, lane, end);
  }

  /**
   * Runs `work` after what was given to run alone, and beside a few others that were not. What it returns is called after
   * everything given to the lane before.
   */
  runBeside(name: string, work: () => Promise<() => void>): void {
    const lane = this.lane(name);
    const worked = (lane.beside.at(-BESIDE_MAX) ?? lane.alone).then(work);
    const end = Promise.all([worked, lane.end]).then(([tell]) => tell());
    lane.beside = [...lane.beside, end].slice(-BESIDE_MAX);
    this.ended(name, lane, end);
  }

  /** Lets idle() wait for `work`, which runs on its own. */
  join(work: Promise<void>): void {
    const end = work.finally(() => this.joined.delete(end));
    this.joined.add(end);
  }

  /** Resolves when nothing is under way, and nothing that was given meanwhile. */
  async idle(): Promise<void> {
    while (this.lanes.size + this.joined.size > 0) {
      await Promise.all([...[...this.lanes.values()].map(({ end }) => end), ...this.joined]);
    }
  }

  private lane(name: string): Lane {
    const begun = this.lanes.get(name);
    if (begun !== undefined) return begun;
    const lane = { end: Promise.resolve(), alone: Promise.resolve(), beside: [] };
    this.lanes.set(name, lane);
    return lane;
  }

  private ended(name: string, lane: Lane, end: Promise<void>): void {
    const last = end.finally(() => {
      if (lane.end === last) this.lanes.delete(name);
    });
    lane.end = last;
  }
}
