/**
 * What was promised, and when: by the receiver, that something survives whatever happens to its disk; and by the agent,
 * that something of its own does. Times are those of CLOCK_MONOTONIC, as in the record of operations.
 */
import type { AgentMessage, ReceiverMessage } from '../../proto/replication.js';
import { readFrameHeader } from '../../proto/frame_header.js';

export type Promised =
  /** R4: every record up to there is on stable storage. */
  | { kind: 'durable'; lsn: bigint }
  /** The generation was accepted: no other begins below it. */
  | { kind: 'generation'; generation: bigint; firstLsn: bigint }
  /** R6: from `lsn` on every durable record of the generation is a point. */
  | { kind: 'ordered'; generation: bigint; lsn: bigint }
  /** Of the volume's base everything below `offset` is on stable storage. */
  | { kind: 'base'; generation: bigint; volume: number; offset: bigint }
  | { kind: 'checkpoint'; name: string; lsn: bigint }
  /** A verification's verdict that the volume differs was sent; `isKnown`: the receiver has said that it knows (R5). */
  | { kind: 'difference'; generation: bigint; volume: number; isKnown: boolean }
  /** The agent has shown itself with this epoch: it never shows it again as another process. */
  | { kind: 'epoch'; epoch: bigint }
  /** The agent has used numbers up to there: it never uses them again. */
  | { kind: 'used'; lsn: bigint }
  /** Retention may let go of what is before `lsn` from now on, and of no more. */
  | { kind: 'letGo'; lsn: bigint };
export type PromisedAt = Promised & { ns: bigint };

/** What follows from the promises made so far. */
export interface Promises {
  durableLsn: bigint;
  generation: bigint;
  /** By generation: the first LSN that is a point, and the last durable one, which may lie below it. */
  ordered: Map<bigint, { firstLsn: bigint; lastLsn: bigint }>;
  /** By volume: how far its base was written, in which generation. */
  bases: Map<number, { generation: bigint; offset: bigint }>;
  checkpoints: Map<string, bigint>;
  /** Differences that may be known, and those that are; "GENERATION VOLUME" each. */
  differences: { sent: Set<string>; known: Set<string> };
  epoch: bigint;
  usedLsn: bigint;
  letGoLsn: bigint;
}

export function noPromises(): Promises {
  return {
    durableLsn: 0n,
    generation: 0n,
    ordered: new Map(),
    bases: new Map(),
    checkpoints: new Map(),
    differences: { sent: new Set(), known: new Set() },
    epoch: 0n,
    usedLsn: 0n,
    letGoLsn: 0n,
  };
}

export function keep(promises: Promises, promised: Promised): void {
  switch (promised.kind) {
    case 'durable': {
      if (promised.lsn <= promises.durableLsn) return;
      promises.durableLsn = promised.lsn;
      const range = promises.ordered.get(promises.generation);
      if (range !== undefined) range.lastLsn = promised.lsn;
      return;
    }
    case 'generation':
      promises.generation = promised.generation;
      return;
    case 'ordered':
      promises.ordered.set(promised.generation, { firstLsn: promised.lsn, lastLsn: promises.durableLsn });
      return;
    case 'base': {
      const { volume, generation, offset } = promised;
      promises.bases.set(volume, { generation, offset });
      return;
    }
    case 'checkpoint':
      promises.checkpoints.set(promised.name, promised.lsn);
      return;
    case 'difference': {
      const { sent, known } = promises.differences;
      (promised.isKnown ? known : sent).add(differenceKey(promised.generation, promised.volume));
      return;
    }
    case 'epoch':
      if (promised.epoch > promises.epoch) promises.epoch = promised.epoch;
      return;
    case 'used':
      if (promised.lsn > promises.usedLsn) promises.usedLsn = promised.lsn;
      return;
    case 'letGo':
      promises.letGoLsn = promised.lsn;
  }
}

export function differenceKey(generation: bigint, volume: number): string {
  return `${generation} ${volume}`;
}

/** Of a difference's key. */
export function generationOf(key: string): bigint {
  return BigInt(key.split(' ')[0] ?? '');
}

/** Listens to one session, and tells what is promised in it. */
export class SessionEar {
  private generation = 0n;
  private readonly volumes = new Set<number>();
  /** Of those that are complete: the volume's first ordered LSN. */
  private readonly synced = new Map<number, bigint>();
  private readonly checkpoints = new Map<string, { name: string; lsn: bigint }>();
  private readonly differences = new Map<number, { generation: bigint; volume: number }>();
  private begun = { generation: 0n, firstLsn: 0n };

  constructor(private readonly tell: (promised: Promised) => void) {}

  agent(message: AgentMessage): void {
    if ('frame' in message) {
      const { buffer, headroom } = message.frame;
      this.tell({ kind: 'used', lsn: readFrameHeader(buffer.subarray(headroom)).lastLsn });
    } else if ('hello' in message) {
      this.tell({ kind: 'epoch', epoch: message.hello.epoch });
      this.take(message.hello.volumes);
    } else if ('generationBegin' in message) {
      const { generation, firstLsn, volumes } = message.generationBegin;
      this.begun = { generation, firstLsn };
      this.take(volumes);
    } else if ('verifyDone' in message && message.verifyDone.differingBytes > 0n) {
      const difference = { generation: this.generation, volume: message.verifyDone.volume };
      this.differences.set(message.verifyDone.id, difference);
      this.tell({ kind: 'difference', ...difference, isKnown: false });
    } else if ('checkpoint' in message) {
      const { requestId, name, lsn } = message.checkpoint;
      this.checkpoints.set(requestId, { name, lsn });
    }
  }

  receiver(message: ReceiverMessage): void {
    if ('welcome' in message) {
      this.generation = message.welcome.generation;
      this.tell({ kind: 'durable', lsn: message.welcome.durableLsn });
    } else if ('ack' in message) {
      this.tell({ kind: 'durable', lsn: message.ack.durableLsn });
    } else if ('generationAccepted' in message) {
      this.generation = message.generationAccepted.generation;
      this.synced.clear();
      this.tell({ kind: 'generation', ...this.begun });
    } else if ('syncAck' in message) {
      this.tell({ kind: 'base', generation: this.generation, ...message.syncAck });
    } else if ('syncComplete' in message) {
      const { volume, lsn } = message.syncComplete;
      this.synced.set(volume, lsn);
      // A session that goes on with a sync that another one began hears only of the rest: it promises no less.
      if (this.synced.size < this.volumes.size) return;
      const first = [...this.synced.values()].reduce((high, each) => (each > high ? each : high), 0n);
      this.tell({ kind: 'ordered', generation: this.generation, lsn: first });
    } else if ('verifyReply' in message && message.verifyReply.code === '') {
      const difference = this.differences.get(message.verifyReply.id);
      if (difference !== undefined) this.tell({ kind: 'difference', ...difference, isKnown: true });
    } else if ('checkpointDone' in message && message.checkpointDone.code === '') {
      const checkpoint = this.checkpoints.get(message.checkpointDone.requestId);
      if (checkpoint !== undefined) this.tell({ kind: 'checkpoint', ...checkpoint });
    }
  }

  private take(volumes: readonly { number: number }[]): void {
    this.volumes.clear();
    for (const { number } of volumes) this.volumes.add(number);
  }
}
