/** The stamp writers of a round, from its begin to its end, over as many devices as the host goes through. */
import type { GroupStatus } from '../../proto/control.js';
import { StampWriter, type StampedOperation } from './stamp_writer.js';
import { deviceOf, type World } from './world.js';

/** A second: so that the faults of a round strike while it lasts. */
const RATE = 2200;
/** Errno of an operation that its client gave up because it was ending when its connection broke: ECANCELED. */
export const GIVEN_UP = 125;
/** Longest wait for an answer once nothing is wrong any more. */
export const ANSWER_SECONDS_MAX = 60;

export class Load {
  readonly operations: StampedOperation[] = [];
  private writer: StampWriter | null = null;
  private starts = 0;

  constructor(
    private readonly world: World,
    private readonly seed: number,
  ) {}

  /** Writes that were acknowledged so far. */
  get writes(): number {
    const done = this.operations.filter(({ kind, errno }) => kind === 'write' && errno === 0);
    return done.length + (this.writer?.writes ?? 0);
  }

  /** Over the devices that the agent names. */
  start(group: GroupStatus): void {
    const targets = this.world.stamped.map(({ name }) => {
      const device = deviceOf(group, name);
      return device.startsWith('/') ? device : `nbd+unix:///${name}?socket=${device.replace(/^unix:/, '')}`;
    });
    const first = this.operations.reduce((last, { op }) => Math.max(last, op), 0) + 1;
    const options = { seed: this.seed + this.starts, rate: RATE, first };
    this.writer = StampWriter.start(this.world.scratch, targets, options);
    this.starts += 1;
  }

  /** Waits until so many writes were acknowledged; rejects when none is for a long time. */
  async reaches(writes: number): Promise<void> {
    const before = this.writes - (this.writer?.writes ?? 0);
    if (await this.writer?.reaches(writes - before, ANSWER_SECONDS_MAX)) return;
    throw new Error(`production was not served for ${ANSWER_SECONDS_MAX} s`);
  }

  /**
   * What no flush covers may have been lost, in whole or in part, and counts as failed from now on; returns the instant. A
   * failure leaves in doubt what was not flushed before it, whatever flushes succeed later. Nothing is under way.
   */
  losePower(): bigint {
    const flushes = this.operations.filter(({ kind, errno }) => kind === 'flush' && errno === 0);
    flushes.sort((left, right) => Number(left.submitNs - right.submitNs));
    const failures = this.operations.filter(({ errno }) => errno !== 0);
    for (const operation of this.operations) {
      const covering = flushes.find(({ submitNs }) => submitNs > operation.ackNs);
      const isFlushed =
        covering !== undefined &&
        !failures.some(({ submitNs, ackNs }) => ackNs > operation.submitNs && submitNs < covering.ackNs);
      if (!isFlushed) operation.isFailed = true;
    }
    return this.operations.reduce((last, { ackNs }) => (ackNs > last ? ackNs : last), 0n) + 1n;
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    const writer = this.writer;
    this.writer = null;
    if (writer !== null) this.operations.push(...(await writer.stop(ANSWER_SECONDS_MAX)));
  }
}
