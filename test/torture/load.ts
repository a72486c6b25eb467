/** The stamp writers of a round, from its begin to its end, over as many devices as the host goes through. */
import type { GroupStatus } from '../../proto/control.js';
import { StampWriter, type StampedOperation } from './stamp_writer.js';
import type { World } from './world.js';

/** A second: so that the faults of a round strike while it lasts. */
const RATE = 3000;
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
    const done = this.operations.filter(({ kind, isFailed }) => kind === 'write' && isFailed !== true);
    return done.length + (this.writer?.writes ?? 0);
  }

  /** Over the devices that the agent names. */
  start(group: GroupStatus): void {
    const targets = this.world.stamped.map(({ name }) => {
      const device = group.volumes.find((volume) => volume.name === name)?.device ?? '';
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

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    const writer = this.writer;
    this.writer = null;
    if (writer !== null) this.operations.push(...(await writer.stop(ANSWER_SECONDS_MAX)));
  }
}
