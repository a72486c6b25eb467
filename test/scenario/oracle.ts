/**
 * The prefix oracle: judges recovered images against nothing but what the writers saw (stamp_writer.py): which
 * operation each sector carries, and when each operation was submitted and acknowledged.
 *
 * An image set (one image per volume of the group) passes at time T when, for every sector,
 *  - what it carries was submitted by T, and
 *  - no operation on that sector that was acknowledged before T was submitted after what it carries was acknowledged
 *    (it would have had to overwrite it).
 * For a point named by LSN there is no T; prefix order (R1, R3) then says: everything that was acknowledged before the
 * latest-submitted operation that is visible anywhere in the set was submitted must be there as well. That is the same
 * test with T = the latest submission that is visible. A trim leaves no stamp: where zeroes cannot be explained up to a
 * T, the next one that was submitted there must have been visible too, which gives a later T. The set passes when the
 * least T that explains every sector exists.
 */
import { readFile } from 'node:fs/promises';

const SECTOR = 512;
/**
 * Words of 32 bits: magic, volume, sector and operation are two each, and the operation's are the last two too; the two
 * before them are what lies between, by exclusive or.
 */
const WORDS = SECTOR / 4;
const MAGIC_LOW = 0x534f4741;
const MAGIC_HIGH = 0x504d4154;

export interface Operation {
  op: number;
  volume: number;
  kind: 'write' | 'trim' | 'zero' | 'flush';
  offset: number;
  length: number;
  submitNs: bigint;
  /** When it was answered. */
  ackNs: bigint;
  /** Answered with an error: it may have been done, in whole, in part or not at all, and by then nothing more happens. */
  isFailed?: boolean;
}

export async function readOperations(log: string): Promise<Operation[]> {
  const text = await readFile(log, 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const raw = JSON.parse(line) as Omit<Operation, 'submitNs' | 'ackNs'> & {
        submitNs: string;
        ackNs: string;
      };
      return { ...raw, submitNs: BigInt(raw.submitNs), ackNs: BigInt(raw.ackNs) };
    });
}

export interface Verdict {
  /** Human-readable, at most a few. Empty: the images are a prefix. */
  violations: string[];
  sectorsWritten: number;
  /** The latest submission that is visible, or that the zeroes want. */
  visibleNs: bigint;
}

const VIOLATIONS_SHOWN = 10;
/** Of the operations on a sector: its beginning, and whatever stands there that is not theirs. */
const NEVER = -1;
const UNKNOWN = -2;

/** Nanoseconds since the first submission, which a number holds exactly for a hundred days. */
type Since = number;

export class Oracle {
  /** In order of submission; what is called an operation from here on is its index in that order. */
  private readonly operations: readonly Operation[];
  private readonly submit: Float64Array;
  private readonly answer: Float64Array;
  private readonly beginNs: bigint;
  private readonly byNumber = new Map<number, number>();
  private readonly sectors: readonly SectorHistory[];

  constructor(operations: readonly Operation[], volumeBytes: readonly number[]) {
    this.operations = [...operations].sort((a, b) =>
      a.submitNs < b.submitNs ? -1 : Number(a.submitNs > b.submitNs),
    );
    this.beginNs = this.operations[0]?.submitNs ?? 0n;
    this.submit = Float64Array.from(this.operations, ({ submitNs }) => this.since(submitNs));
    this.answer = Float64Array.from(this.operations, ({ ackNs }) => this.since(ackNs));
    this.operations.forEach(({ op }, index) => this.byNumber.set(op, index));
    this.sectors = volumeBytes.map((bytes, volume) => new SectorHistory(this.operations, volume, bytes));
  }

  /** How many operations overlapped another one on that volume while both were in flight: R2 is tested by these. */
  overlapsInFlight(volume: number): number {
    let count = 0;
    const open: Operation[] = [];
    for (const operation of this.operations) {
      if (operation.length === 0 || operation.volume !== volume) continue;
      for (let i = open.length - 1; i >= 0; i -= 1) {
        if ((open[i] as Operation).ackNs < operation.submitNs) open.splice(i, 1);
      }
      const end = operation.offset + operation.length;
      if (open.some((o) => o.offset < end && operation.offset < o.offset + o.length)) count += 1;
      open.push(operation);
    }
    return count;
  }

  /** Judges the images of one point. `timeNs`: the point's time if it was named by time, else null. */
  judge(images: readonly Buffer[], timeNs: bigint | null): Verdict {
    const violations: string[] = [];
    const report = (text: string): void => {
      if (violations.length < VIOLATIONS_SHOWN) violations.push(text);
    };
    let visible = 0;
    let sectorsWritten = 0;
    const carried = images.map((image, volume) => {
      const sectors = this.carriedBy(image, volume, report);
      for (const operation of sectors) {
        if (operation < 0) continue;
        sectorsWritten += 1;
        visible = Math.max(visible, this.submit[operation] as number);
      }
      return sectors;
    });
    let until = timeNs === null ? visible : this.since(timeNs);
    if (timeNs === null) {
      for (let next = this.raised(carried, until); next > until; next = this.raised(carried, until))
        until = next;
    }
    carried.forEach((sectors, volume) => {
      sectors.forEach((operation, sector) => this.judgeSector(volume, sector, operation, until, report));
    });
    return { violations, sectorsWritten, visibleNs: this.beginNs + BigInt(until) };
  }

  private since(ns: bigint): Since {
    return Number(ns - this.beginNs);
  }

  /** The least T from `until` on that trims leave possible, for every sector of zeroes that is unexplained so far. */
  private raised(carried: readonly Int32Array[], until: Since): Since {
    let raised = until;
    carried.forEach((sectors, volume) => {
      sectors.forEach((operation, sector) => {
        if (operation !== NEVER) return;
        const all = this.sectors[volume]?.of(sector) ?? [];
        if (this.lostFrom(all, this.zeroedBy(all, until), until) === NEVER) return;
        const later = all.find(
          (o) => (this.submit[o] as number) > until && this.operations[o]?.kind !== 'write',
        );
        if (later !== undefined) raised = Math.max(raised, this.submit[later] as number);
      });
    });
    return raised;
  }

  /** By sector, the write whose stamp it carries; NEVER for a sector of zeroes. */
  private carriedBy(image: Buffer, volume: number, report: (text: string) => void): Int32Array {
    const isAligned = image.byteOffset % 4 === 0;
    const bytes = isAligned ? image : new Uint8Array(image);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, image.length / 4);
    const carried = new Int32Array(image.length / SECTOR);
    for (let sector = 0; sector < carried.length; sector += 1) {
      const at = sector * WORDS;
      carried[sector] = UNKNOWN;
      if (words[at] !== MAGIC_LOW || words[at + 1] !== MAGIC_HIGH) {
        if (isZero(words, at)) carried[sector] = NEVER;
        else report(`volume ${volume} sector ${sector}: neither a stamp nor zeroes`);
        continue;
      }
      const number = words[at + 6] as number;
      const operation = this.byNumber.get(number);
      const isOwn = words[at + 2] === volume && words[at + 4] === sector;
      if (operation === undefined || !isOwn || (words[at + 3] as number) + (words[at + 5] as number) > 0)
        report(`volume ${volume} sector ${sector}: the stamp of another place, or of nobody`);
      else if (words[at + WORDS - 2] !== number)
        report(`volume ${volume} sector ${sector}: begins as operation ${number} and ends as another`);
      else if (!isWhole(words, at))
        report(`volume ${volume} sector ${sector}: between its ends is not what operation ${number} wrote`);
      else carried[sector] = operation;
    }
    return carried;
  }

  private judgeSector(
    volume: number,
    sector: number,
    carried: number,
    until: Since,
    report: (text: string) => void,
  ): void {
    if (carried === UNKNOWN) return; // told already
    const where = `volume ${volume} sector ${sector}`;
    const number = this.operations[carried]?.op ?? 'zeroes';
    const early = (this.submit[carried] ?? 0) - until;
    if (early > 0) report(`${where}: operation ${number} was submitted ${early} ns after the point`);
    const all = this.sectors[volume]?.of(sector) ?? [];
    const lost = this.lostFrom(all, carried === NEVER ? this.zeroedBy(all, until) : carried, until);
    if (lost === NEVER) return;
    const { kind, op } = this.operations[lost] as Operation;
    report(`${where}: carries ${number}, but ${kind} ${op} was acknowledged before the point`);
  }

  /** Of whose zeroes a sector may carry, the one that was answered last: the beginning, or a trim submitted by then. */
  private zeroedBy(all: ArrayLike<number>, until: Since): number {
    let last = NEVER;
    for (let i = 0; i < all.length && (this.submit[all[i] as number] as number) <= until; i += 1) {
      const each = all[i] as number;
      if (this.operations[each]?.kind === 'write') continue;
      if (last === NEVER || (this.answer[each] as number) > (this.answer[last] as number)) last = each;
    }
    return last;
  }

  /** An operation that was acknowledged before `until`, and had to overwrite `carried`; NEVER: there is none. */
  private lostFrom(all: ArrayLike<number>, carried: number, until: Since): number {
    const behind = carried === NEVER ? -Infinity : (this.answer[carried] as number);
    for (let i = all.length - 1; i >= 0 && (this.submit[all[i] as number] as number) > behind; i -= 1) {
      const each = all[i] as number;
      if ((this.answer[each] as number) < until && this.operations[each]?.isFailed !== true) return each;
    }
    return NEVER;
  }
}

/** The operations that changed each sector of one volume, in order of submission. */
class SectorHistory {
  /** Of sector s are those in [begins[s], begins[s + 1]) of `operations`. */
  private readonly begins: Uint32Array;
  private readonly operations: Uint32Array;

  constructor(operations: readonly Operation[], volume: number, bytes: number) {
    const sectors = bytes / SECTOR;
    const ends = new Uint32Array(sectors + 1);
    const each = (visit: (sector: number, operation: number) => void): void =>
      operations.forEach((operation, index) => {
        if (operation.volume !== volume) return;
        const first = operation.offset / SECTOR;
        for (let i = 0; i < operation.length / SECTOR; i += 1) visit(first + i, index);
      });
    each((sector) => {
      ends[sector + 1] = (ends[sector + 1] as number) + 1;
    });
    for (let i = 1; i <= sectors; i += 1) ends[i] = (ends[i] as number) + (ends[i - 1] as number);
    this.begins = ends.slice();
    this.operations = new Uint32Array(ends[sectors] as number);
    each((sector, operation) => {
      const at = ends[sector] as number;
      this.operations[at] = operation;
      ends[sector] = at + 1;
    });
  }

  of(sector: number): Uint32Array {
    return this.operations.subarray(this.begins[sector], this.begins[sector + 1]);
  }
}

/** Whether what lies between the stamp and the end of a sector is what the end says. */
function isWhole(words: Uint32Array, begin: number): boolean {
  let low = 0;
  let high = 0;
  for (let at = begin + 8; at < begin + WORDS - 2; at += 2) {
    low ^= words[at] as number;
    high ^= words[at + 1] as number;
  }
  return low === 0 && high === 0;
}

function isZero(words: Uint32Array, begin: number): boolean {
  for (let at = begin; at < begin + WORDS; at += 1) if (words[at] !== 0) return false;
  return true;
}
