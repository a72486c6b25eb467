/**
 * A protected host: volumes of a few blocks, production that writes them, and the history of what it wrote. The history
 * is the oracle: it is kept here, in the order of publication, by code that knows nothing of sessions.
 */
import { strict as assert } from 'node:assert';
import type { VolumeInfo } from '../../proto/replication.js';
import type { ModelRing, ModelSpoolFile } from './model_backlog.js';
import type { ModelCapture } from './model_capture.js';
import type { ModelDirtyLogs } from './model_dirty_log.js';
import type { Random } from './random.js';
import type { Process } from './scheduler.js';

/** Bytes of a model block: a sector. Its content is one number, 0 for zero. */
export const BLOCK_BYTES = 512;

/** A change that took effect; `value` 0 is a trim. */
export interface Change {
  volume: number;
  block: number;
  count: number;
  value: number;
}

/** A block that was changed behind the agent's back: until somebody writes it again its replica is wrong. */
interface Hidden {
  volume: number;
  block: number;
  value: number;
  /** Of the history: the change itself, and the next of the block; null: there is none. */
  from: number;
  to: number | null;
  /** A verification has told the receiver. */
  isFound: boolean;
}

interface InFlight extends Change {
  /** The blocks before it, for a crash that tears it. */
  before: number[];
}

export class ModelHost {
  /** The backings: content by volume and block. */
  readonly backings: number[][];
  /** The state that the history starts from, and every change since. */
  readonly origin: number[][];
  readonly changes: Change[] = [];
  /** Of the history, up to the last change that was not made behind the agent's back. */
  shownCount = 0;
  readonly inFlight = new Set<InFlight>();
  capture: ModelCapture | null = null;
  logs: ModelDirtyLogs | null = null;
  /** In the descriptor store: it outlives the process that made it. */
  ring: ModelRing | null = null;
  /** Files on the host's disk. */
  readonly spool: ModelSpoolFile[] = [];
  /** Requests that a killed process had begun: its successor reads their ranges again, and runs them. */
  #unfinished: Change[] = [];
  #hidden: Hidden[] = [];
  /** What a power loss cannot take away. */
  #stable: number[][];
  #lsnMax = 0n;
  #isLastAway: boolean;
  #hotBlock = 0;

  constructor(
    readonly volumes: VolumeInfo[],
    content: number[][],
    private readonly random: Random,
    /** Stamps are unique over all hosts of a history. */
    private readonly nextStamp: () => number,
    private readonly onLsn: (lsn: bigint) => void,
    isLastAway: boolean,
  ) {
    this.#isLastAway = isLastAway;
    this.backings = content.map((blocks) => [...blocks]);
    this.origin = content.map((blocks) => [...blocks]);
    this.#stable = content.map((blocks) => [...blocks]);
  }

  /** Whether the configuration does not have the last volume at present. */
  get isLastAway(): boolean {
    return this.#isLastAway;
  }
  /** The volumes that are protected at present. */
  get present(): VolumeInfo[] {
    return this.#isLastAway ? this.volumes.slice(0, -1) : this.volumes;
  }
  /** The last volume is not protected any more. False: somebody is writing to it. */
  sendLastAway(): boolean {
    const number = this.volumes.length - 1;
    if ([...this.inFlight].some(({ volume }) => volume === number)) return false;
    this.flush();
    this.#isLastAway = true;
    return true;
  }
  /** It is protected again. True: somebody has written to it meanwhile. */
  bringLastBack(): boolean {
    const volume = this.volumes.length - 1;
    this.#isLastAway = false;
    const isChanged = this.random.chance(0.5);
    if (isChanged) {
      const block = this.random.int(0, this.#backing(volume).length - 1);
      const change = { volume, block, count: 1, value: this.nextStamp() };
      apply(this.backings, change);
      this.#record(change);
    }
    return isChanged;
  }

  /** Production writes something; `process` is the agent that serves it. */
  write(process: Process): void {
    const volume = this.random.int(0, this.present.length - 1);
    const blocks = this.#backing(volume);
    const count = this.random.int(1, 4);
    const block = this.#place(blocks.length - count);
    if (this.isLocked(volume, block, count)) return; // the extent lock: it waits, and here another write comes anyway
    const value = this.random.chance(0.2) ? 0 : this.nextStamp();
    this.#begin({ volume, block, count, value }, process);
  }
  #begin({ volume, block, count, value }: Change, process: Process): void {
    const blocks = this.#backing(volume);
    const change: InFlight = { volume, block, count, value, before: blocks.slice(block, block + count) };
    this.inFlight.add(change);
    this.logs?.enter(volume, block, count);
    blocks.fill(value, block, block + count);
    process.after(this.random.int(0, 6), () => this.#publish(change));
  }

  /** Production works in one place for a while: the rest is not in doubt. */
  #place(blockMax: number): number {
    if (this.random.chance(0.01)) this.#hotBlock = this.random.int(0, 1000);
    const hot = this.#hotBlock % (blockMax + 1);
    return this.random.chance(0.03)
      ? this.random.int(0, blockMax)
      : Math.min(blockMax, hot + this.random.int(0, 7));
  }

  /** Somebody changes a backing, and nobody who captures sees it. */
  writeBehind(): void {
    const volume = this.random.int(0, this.present.length - 1);
    const blocks = this.#backing(volume);
    const block = this.random.int(0, blocks.length - 1);
    if (this.isLocked(volume, block, 1)) return;
    const value = this.nextStamp();
    blocks[block] = value;
    const { shownCount } = this;
    this.#record({ volume, block, count: 1, value });
    this.shownCount = shownCount;
    this.#hidden.push({ volume, block, value, from: this.changes.length, to: null, isFound: false });
  }
  /** A verification has found these, and the receiver knows. */
  found(volume: number, block: number): void {
    for (const hidden of this.#hidden) {
      if (hidden.volume === volume && hidden.block === block && hidden.to === null) hidden.isFound = true;
    }
  }
  /** The receiver knows nothing any more. */
  forgetFound(): void {
    for (const hidden of this.#hidden) hidden.isFound = false;
  }
  /**
   * Whether nobody could know that a replica which shows `shown` is wrong here, after so many changes. What was hidden has no
   * LSN: a sync that read it later may end at an earlier one.
   */
  isHidden(volume: number, block: number, historyCount: number, shown: number): boolean {
    return this.#hidden.some(({ isFound, value, from, to, ...hidden }) => {
      if (hidden.volume !== volume || hidden.block !== block) return false;
      return value === shown || (!isFound && from <= historyCount && (to === null || historyCount < to));
    });
  }
  /** Of the host that this one is a copy of. */
  inheritHidden({ hidden }: { hidden: readonly Hidden[] }): void {
    this.#hidden = hidden.filter(({ to }) => to === null).map((one) => ({ ...one, from: 0 }));
  }
  get hidden(): readonly Hidden[] {
    return this.#hidden;
  }

  isLocked(volume: number, block: number, count: number): boolean {
    for (const other of this.inFlight) {
      if (other.volume === volume && other.block < block + count && block < other.block + other.count)
        return true;
    }
    return false;
  }

  read(volume: number, block: number, count: number): number[] {
    return this.#backing(volume).slice(block, block + count);
  }

  /**
   * The agent process is killed, and what it left in the descriptor store is kept: production waits for a successor. Writes
   * in flight have reached the backing, wholly, in part or not; some were published and not marked executed, of some the
   * LSN was given and nothing published.
   */
  suspend(): void {
    for (const { volume, block, count, value, before } of this.inFlight) {
      const change = { volume, block, count, value };
      this.#unfinished.push(change);
      if (this.random.chance(0.3)) {
        this.#record(change);
        this.capture?.publish([change]);
        continue;
      }
      if (this.random.chance(0.3)) this.capture?.leaveVoid();
      const blocks = this.#backing(volume);
      before.forEach((old, index) => {
        if (this.random.chance(0.5)) blocks[block + index] = old;
      });
    }
    this.inFlight.clear();
    this.capture = null;
    this.logs = null;
  }

  /** A successor journals what it finds where its predecessor was writing, and runs what that had not answered. */
  resume(capture: ModelCapture, logs: ModelDirtyLogs, process: Process): void {
    this.capture = capture;
    this.logs = logs;
    const unfinished = this.#unfinished.splice(0);
    for (const { volume, block, count } of unfinished) {
      const found = this.read(volume, block, count).map((value, index) => {
        return { volume, block: block + index, count: 1, value };
      });
      for (const change of found) this.#record(change);
      capture.publish(found);
    }
    for (const change of unfinished) this.#begin(change, process);
  }

  /** The agent process dies, and its ring with it: writes in flight reached the backing, or did not; nobody was told. */
  crash(): void {
    this.ring = null;
    this.#unfinished = [];
    for (const change of this.inFlight) {
      if (this.random.chance(0.5)) {
        this.#record(change);
      } else {
        this.#backing(change.volume).splice(change.block, change.count, ...change.before);
      }
    }
    this.inFlight.clear();
    this.capture = null;
    this.logs = null;
  }

  /** Everything written so far is on stable storage. */
  flush(): void {
    this.#stable = this.backings.map((blocks) => [...blocks]);
  }

  /** After crash(): any of what was not flushed is gone. The history has it as if somebody had written what is there now. */
  losePower(): number {
    let lost = 0;
    this.backings.forEach((blocks, volume) => {
      blocks.forEach((value, block) => {
        const stable = this.#stable[volume]?.[block] ?? 0;
        if (value === stable || this.random.chance(0.5)) return;
        blocks[block] = stable;
        this.#record({ volume, block, count: 1, value: stable });
        lost += 1;
      });
    });
    this.flush();
    return lost;
  }

  /** No LSN twice, whatever the agents of this host forget. */
  lsnGiven(lsn: bigint): void {
    assert(lsn > this.#lsnMax, `LSN ${lsn} was given before, up to ${this.#lsnMax}`);
    this.#lsnMax = lsn;
    this.onLsn(lsn);
  }

  #publish(change: InFlight): void {
    this.inFlight.delete(change);
    this.#record(change);
    this.capture?.publish([change]);
    this.logs?.leave(change.volume, change.block, change.count);
  }
  #record({ volume, block, count, value }: Change): void {
    this.changes.push({ volume, block, count, value });
    this.shownCount = this.changes.length;
    for (const hidden of this.#hidden) {
      const isHit = hidden.volume === volume && hidden.block >= block && hidden.block < block + count;
      if (isHit && hidden.to === null) hidden.to = this.changes.length;
    }
  }
  #backing(volume: number): number[] {
    const blocks = this.backings[volume];
    if (blocks === undefined) throw new Error(`no volume ${volume}`);
    return blocks;
  }
}

export function apply(state: number[][], { volume, block, count, value }: Change): void {
  state[volume]?.fill(value, block, block + count);
}
