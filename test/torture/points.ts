/** What the timeline of a round promises, point by point: the oracle judges what is called ordered (R3, R5, R6). */
import { createHash } from 'node:crypto';
import type { TimelineSpan } from '../../proto/control.js';
import { AfterimageError } from '../../proto/errors.js';
import { formatTime } from '../../proto/time.js';
import { Oracle } from '../scenario/oracle.js';
import type { StampedOperation } from './stamp_writer.js';
import type { World } from './world.js';

const LSNS = 12;
const TIMES = 6;
/** Points that are looked at at once: one is copied while another is judged. */
const LANES = 2;

/** What a point held when it was looked at under way. */
export interface Sample {
  lsn: bigint;
  hashes: string[];
}
type Report = (promise: string, text: string) => void;

export function hashesOf(images: readonly Buffer[]): string[] {
  return images.map((image) => createHash('sha256').update(image).digest('hex'));
}

/** The newest durable point, when it is one. */
export async function takeSample({ control, stamped }: World): Promise<Sample | null> {
  try {
    const { durableLsn: lsn } = await control.agentGroup();
    const images = await control.recovered(
      stamped.map(({ name }) => name),
      `lsn:${lsn}`,
    );
    return { lsn, hashes: hashesOf(images) };
  } catch (thrown) {
    // Not ordered, or there is no daemon just now.
    if (thrown instanceof AfterimageError) return null;
    throw thrown;
  }
}

export class PointJudge {
  private readonly oracle: Oracle;
  private readonly names: string[];
  /** Judged so far. */
  count = 0;
  /** Compared with what they held under way. */
  samples = 0;

  constructor(
    private readonly world: World,
    private readonly operations: readonly StampedOperation[],
    private readonly random: () => number,
    private readonly report: Report,
  ) {
    this.names = world.stamped.map(({ name }) => name);
    this.oracle = new Oracle(
      operations,
      world.stamped.map(({ bytes }) => bytes),
    );
  }

  /** The share of operations that overlapped another one in flight. */
  overlapping(): number {
    const counts = this.names.map((_, volume) => this.oracle.overlapsInFlight(volume));
    return counts.reduce((sum, count) => sum + count, 0) / Math.max(1, this.operations.length);
  }

  /** `around`: LSNs at which something happened. */
  async judge(samples: readonly Sample[], around: readonly bigint[]): Promise<void> {
    const spans = await this.world.control.timeline();
    const ordered = spans.filter(
      ({ grade, firstLsn, lastLsn }) => grade === 'ordered' && lastLsn >= firstLsn,
    );
    const refused = spans.filter(
      ({ grade, firstLsn, lastLsn }) => grade !== 'ordered' && grade !== 'gap' && lastLsn >= firstLsn,
    );
    const instants = Array.from({ length: TIMES }, () => this.instant());
    const lsns = this.lsns(ordered, around);
    await inLanes([
      ...[...lsns].map((lsn) => () => this.judgeLsn(lsn)),
      ...instants.map((timeNs) => () => this.judgeTime(timeNs, spans)),
      ...refused.map((span) => () => this.refused(span)),
      ...samples.map((sample) => () => this.kept(sample)),
    ]);
  }

  private lsns(ordered: readonly TimelineSpan[], around: readonly bigint[]): Set<bigint> {
    const chosen = new Set<bigint>();
    const total = ordered.reduce((sum, { firstLsn, lastLsn }) => sum + (lastLsn - firstLsn) + 1n, 0n);
    for (const span of ordered) {
      const length = span.lastLsn - span.firstLsn + 1n;
      const share = 1 + Math.round((LSNS * Number(length)) / Number(total));
      for (let i = 0; i < share; i += 1)
        chosen.add(span.firstLsn + BigInt(Math.floor(this.random() * Number(length))));
      for (const lsn of [span.firstLsn, span.lastLsn, ...around])
        if (lsn >= span.firstLsn && lsn <= span.lastLsn) chosen.add(lsn);
    }
    chosen.delete(0n);
    return chosen;
  }

  private async judgeLsn(lsn: bigint): Promise<void> {
    const images = await this.images(lsn);
    if (images === null) return;
    this.count += 1;
    for (const text of this.oracle.judge(images, null).violations) this.report('R3', `lsn:${lsn}: ${text}`);
  }

  /** An instant while the load ran. */
  private instant(): bigint {
    const begin = this.operations[0]?.submitNs ?? 0n;
    const end = this.operations.reduce((last, { ackNs }) => (ackNs > last ? ackNs : last), begin);
    return begin + BigInt(Math.floor(this.random() * Number(end - begin)));
  }

  private async judgeTime(timeNs: bigint, spans: readonly TimelineSpan[]): Promise<void> {
    const { control } = this.world;
    const point = formatTime(timeNs);
    const told = await control.point(point).catch((thrown: unknown) => {
      if (thrown instanceof AfterimageError) return thrown;
      throw thrown;
    });
    if (told instanceof AfterimageError || told.grade !== 'ordered') {
      // Retention goes on meanwhile.
      if (!isOrderedAt(timeNs, spans) || !isOrderedAt(timeNs, await control.timeline())) return;
      const is = told instanceof AfterimageError ? told.code : told.grade;
      this.report('R5', `${point} is in an ordered span of the timeline, and the point is ${is}`);
      return;
    }
    const images = await this.images(told.lsn);
    if (images === null) return;
    this.count += 1;
    for (const text of this.oracle.judge(images, timeNs).violations)
      this.report('R3', `${point} (lsn:${told.lsn}): ${text}`);
  }

  private async refused({ grade, firstLsn, lastLsn }: TimelineSpan): Promise<void> {
    const lsn = firstLsn + BigInt(Math.floor(this.random() * Number(lastLsn - firstLsn + 1n)));
    if (lsn === 0n) return;
    const code = await this.world.control.recovered(this.names, `lsn:${lsn}`).then(
      () => 'nothing',
      (thrown: unknown) => (thrown instanceof AfterimageError ? thrown.code : String(thrown)),
    );
    const { oldestLsn } = await this.world.control.receiverGroup();
    if (code !== 'POINT_GRADE' && lsn >= oldestLsn)
      this.report('R5', `lsn:${lsn} is in a span graded ${grade}; what refused it is ${code}`);
  }

  private async kept({ lsn, hashes }: Sample): Promise<void> {
    const images = await this.images(lsn);
    if (images === null) return;
    this.samples += 1;
    if (hashesOf(images).join() !== hashes.join())
      this.report('R6', `lsn:${lsn} holds something else than it did under way`);
  }

  /** Null, with a report, when it cannot be had; without one when retention has taken it meanwhile. */
  private async images(lsn: bigint): Promise<Buffer[] | null> {
    try {
      return await this.world.control.recovered(this.names, `lsn:${lsn}`);
    } catch (thrown) {
      if (!(thrown instanceof AfterimageError)) throw thrown;
      const { oldestLsn } = await this.world.control.receiverGroup();
      if (lsn >= oldestLsn) this.report('R6', `lsn:${lsn} was ordered and cannot be had: ${thrown.message}`);
      return null;
    }
  }
}

function isOrderedAt(timeNs: bigint, spans: readonly TimelineSpan[]): boolean {
  return spans.some(
    ({ grade, beginNs, endNs }) => grade === 'ordered' && beginNs <= timeNs && timeNs <= endNs,
  );
}

async function inLanes(tasks: (() => Promise<void>)[]): Promise<void> {
  const lane = async (): Promise<void> => {
    for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) await task();
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}
