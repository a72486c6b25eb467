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
const MAGIC = 0x504d4154534f4741n;

export interface Operation {
  op: number;
  volume: number;
  kind: 'write' | 'trim' | 'zero' | 'flush';
  offset: number;
  length: number;
  submitNs: bigint;
  ackNs: bigint;
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
type Candidate = Pick<Operation, 'op' | 'submitNs' | 'ackNs'>;
const NEVER: Candidate = { op: 0, submitNs: 0n, ackNs: 0n };

export class Oracle {
  private readonly byOperation = new Map<number, Operation>();
  /** bySector[volume][sector]: operations that changed it, in order of submission. */
  private readonly bySector: (Operation[] | undefined)[][];

  constructor(operations: readonly Operation[], volumeBytes: readonly number[]) {
    this.bySector = volumeBytes.map((bytes) => new Array<Operation[] | undefined>(bytes / SECTOR));
    for (const operation of [...operations].sort((a, b) => (a.submitNs < b.submitNs ? -1 : 1))) {
      this.byOperation.set(operation.op, operation);
      const sectors = this.bySector[operation.volume];
      if (sectors === undefined) throw new Error(`operation on volume ${operation.volume}`);
      const first = operation.offset / SECTOR;
      for (let sector = first; sector < first + operation.length / SECTOR; sector += 1) {
        (sectors[sector] ??= []).push(operation);
      }
    }
  }

  /** How many operations overlapped another one on that volume while both were in flight: R2 is tested by these. */
  overlapsInFlight(volume: number): number {
    let count = 0;
    const open: Operation[] = [];
    for (const operation of this.byOperation.values()) {
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
    let visibleNs = 0n;
    let sectorsWritten = 0;
    const carried = images.map((image, volume) => {
      const sectors = new Array<Operation | null>(image.length / SECTOR).fill(null);
      for (let sector = 0; sector < sectors.length; sector += 1) {
        const operation = this.carriedBy(image, volume, sector, report);
        if (operation === null) continue;
        sectors[sector] = operation;
        sectorsWritten += 1;
        if (operation.submitNs > visibleNs) visibleNs = operation.submitNs;
      }
      return sectors;
    });
    let until = timeNs ?? visibleNs;
    if (timeNs === null) {
      for (let next = this.raised(carried, until); next > until; next = this.raised(carried, until))
        until = next;
    }
    carried.forEach((sectors, volume) => {
      sectors.forEach((operation, sector) => this.judgeSector(volume, sector, operation, until, report));
    });
    return { violations, sectorsWritten, visibleNs: until };
  }

  /** The least T from `until` on that trims leave possible, for every sector of zeroes that is unexplained so far. */
  private raised(carried: readonly (readonly (Operation | null)[])[], until: bigint): bigint {
    let raised = until;
    carried.forEach((sectors, volume) => {
      sectors.forEach((operation, sector) => {
        if (operation !== null) return;
        const all = this.bySector[volume]?.[sector] ?? [];
        if (lostFrom(all, zeroedBy(all, until), until) === undefined) return;
        const later = zeroedBy(all, null).find(({ submitNs }) => submitNs > until);
        if (later !== undefined && later.submitNs > raised) raised = later.submitNs;
      });
    });
    return raised;
  }

  /** The write whose stamp the sector carries; null for a sector of zeroes. */
  private carriedBy(
    image: Buffer,
    volume: number,
    sector: number,
    report: (text: string) => void,
  ): Operation | null {
    const at = sector * SECTOR;
    const magic = image.readBigUInt64LE(at);
    if (magic !== MAGIC) {
      if (image.subarray(at, at + SECTOR).some((byte) => byte !== 0)) {
        report(`volume ${volume} sector ${sector}: neither a stamp nor zeroes`);
      }
      return null;
    }
    const stamp = { volume: image.readBigUInt64LE(at + 8), sector: image.readBigUInt64LE(at + 16) };
    const operation = this.byOperation.get(Number(image.readBigUInt64LE(at + 24)));
    if (operation === undefined || stamp.volume !== BigInt(volume) || stamp.sector !== BigInt(sector)) {
      report(`volume ${volume} sector ${sector}: the stamp of another place, or of nobody`);
      return null;
    }
    return operation;
  }

  private judgeSector(
    volume: number,
    sector: number,
    carried: Operation | null,
    until: bigint,
    report: (text: string) => void,
  ): void {
    const all = this.bySector[volume]?.[sector] ?? [];
    const where = `volume ${volume} sector ${sector}`;
    if (carried !== null && carried.submitNs > until) {
      report(
        `${where}: operation ${carried.op} was submitted ${carried.submitNs - until} ns after the point`,
      );
    }
    const lost = lostFrom(all, carried === null ? zeroedBy(all, until) : [carried], until);
    if (lost !== undefined) {
      report(
        `${where}: carries ${carried?.op ?? 'zeroes'}, but ${lost.kind} ${lost.op} was acknowledged before the point`,
      );
    }
  }
}

/** Whose zeroes a sector may carry: the beginning's, or any trim's or zero's that had been submitted. */
function zeroedBy(all: readonly Operation[], until: bigint | null): Candidate[] {
  return [NEVER, ...all.filter((o) => o.kind !== 'write' && (until === null || o.submitNs <= until))];
}

/** An operation that was acknowledged before `until`, and had to overwrite the last of the candidates; all are so. */
function lostFrom(
  all: readonly Operation[],
  candidates: readonly Candidate[],
  until: bigint,
): Operation | undefined {
  let lost: Operation | undefined;
  for (const { ackNs } of candidates) {
    lost = all.find((o) => o.ackNs < until && o.submitNs > ackNs);
    if (lost === undefined) return undefined;
  }
  return lost;
}
