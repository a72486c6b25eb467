/**
 * What every block of every volume held after every record, told by the independent reader of the journal
 * (test/replay/) from the journal as it was in the end, and never by what is judged.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { journalFileName, readJournal } from '../replay/journal.js';
import { VolumeImage } from '../replay/volume_image.js';

export const BLOCK_BYTES = 4096;

/** Where a frame lies in the journal as it was in the end. */
export interface FramePlace {
  file: string;
  position: number;
  bytes: number;
  generation: bigint;
  epoch: bigint;
  lastLsn: bigint;
}
/** What a record changed. */
interface Touched {
  lsn: bigint;
  volume: number;
  firstBlock: number;
  /** Exclusive. */
  lastBlock: number;
}
/** By block: the LSNs at which it changed, ascending, and what it held from there on. */
interface BlockHistory {
  lsns: bigint[];
  hashes: string[];
}

export class Truth {
  private readonly blocks = new Map<number, BlockHistory[]>();
  /** By first LSN. */
  readonly frames = new Map<bigint, FramePlace>();
  /** The records that changed something, ascending. */
  private readonly touched: Touched[] = [];
  private readonly bases = new Map<number, Buffer>();
  /** In which the bases were written that are there in the end. */
  baseGeneration = 0n;

  /** `directory`: of the member. By number of the volume: `sizes`, bytes, multiples of 4096, and `base_lsn`. */
  static async read(
    directory: string,
    sizes: ReadonlyMap<number, number>,
    baseLsns: ReadonlyMap<number, bigint>,
  ): Promise<Truth> {
    const truth = new Truth();
    const images = new Map<number, VolumeImage>();
    for await (const { header, frames } of readJournal(directory)) {
      for (const { number, uuid } of header.volumes) {
        const size = sizes.get(number);
        if (size === undefined || images.has(number)) continue;
        const image = await VolumeImage.fromBase(path.join(directory, 'base', `${uuid}.img`), size);
        images.set(number, image);
        truth.bases.set(number, Buffer.from(image.content));
        const all = Array.from({ length: size / BLOCK_BYTES }, (_, block) => ({
          lsns: [0n],
          hashes: [hashOf(blockOf(image.content, block))],
        }));
        truth.blocks.set(number, all);
      }
      const lastBase = [...baseLsns.values()].reduce((high, each) => (each > high ? each : high), 0n);
      if (truth.baseGeneration === 0n && header.firstLsn > lastBase) truth.baseGeneration = header.generation;
      const file = path.join(directory, 'journal', journalFileName(header.firstLsn, '.seg'));
      for (const frame of frames) {
        const { firstLsn, lastLsn, generation, epoch, frameBytes } = frame.header;
        truth.frames.set(firstLsn, {
          ...{ file, position: frame.position, bytes: frameBytes },
          ...{ generation, epoch, lastLsn },
        });
        const payload = frame.readPayload();
        let lsn = firstLsn;
        for (const record of frame.records) {
          const { volume } = record;
          const image = volume === null ? undefined : images.get(volume);
          if (image !== undefined && volume !== null && lsn > (baseLsns.get(volume) ?? 0n)) {
            image.apply(record, payload);
            truth.note(volume, image.content, lsn, record.offset, record.length);
          }
          lsn += 1n;
        }
      }
    }
    return truth;
  }

  /** The base image of a volume as it was in the end. */
  base(volume: number): Buffer {
    return this.bases.get(volume) ?? Buffer.alloc(0);
  }

  /** What the block holds after the record `lsn`. */
  hashAt(volume: number, block: number, lsn: bigint): string {
    const history = this.blocks.get(volume)?.[block];
    if (history === undefined) throw new Error(`no block ${block} of volume ${volume}`);
    const next = firstWhere(history.lsns.length, (index) => (history.lsns[index] as bigint) > lsn);
    return history.hashes[next - 1] ?? '';
  }

  /** Blocks that the last `count` records up to `lsn` changed, by volume: what is most likely to be wrong. */
  lastTouched(lsn: bigint, count: number): Map<number, Set<number>> {
    const end = firstWhere(this.touched.length, (index) => (this.touched[index] as Touched).lsn > lsn);
    return this.blocksOf(Math.max(0, end - count), end);
  }

  /** Blocks that the records of (after, last] changed, by volume. */
  touchedBetween(after: bigint, last: bigint): Map<number, Set<number>> {
    const end = firstWhere(this.touched.length, (index) => (this.touched[index] as Touched).lsn > last);
    const begin = firstWhere(end, (index) => (this.touched[index] as Touched).lsn > after);
    return this.blocksOf(begin, end);
  }

  private blocksOf(begin: number, end: number): Map<number, Set<number>> {
    const blocks = new Map<number, Set<number>>();
    for (const { volume, firstBlock, lastBlock } of this.touched.slice(begin, end)) {
      const own = blocks.get(volume) ?? new Set();
      for (let block = firstBlock; block < lastBlock; block += 1) own.add(block);
      blocks.set(volume, own);
    }
    return blocks;
  }

  private note(volume: number, content: Buffer, lsn: bigint, offset: number, length: number): void {
    const histories = this.blocks.get(volume) ?? [];
    if (length === 0) return;
    const firstBlock = Math.floor(offset / BLOCK_BYTES);
    const lastBlock = Math.ceil((offset + length) / BLOCK_BYTES);
    this.touched.push({ lsn, volume, firstBlock, lastBlock });
    for (let block = firstBlock; block < lastBlock; block += 1) {
      const history = histories[block];
      if (history === undefined) continue;
      history.lsns.push(lsn);
      history.hashes.push(hashOf(blockOf(content, block)));
    }
  }
}

/** The first index of [0, count) from which on `is` holds; count where it never does. */
function firstWhere(count: number, is: (index: number) => boolean): number {
  let low = 0;
  for (let high = count; low < high;) {
    const middle = (low + high) >> 1;
    if (is(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function blockOf(content: Buffer, block: number): Buffer {
  return content.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
}

export function hashOf(block: Buffer): string {
  return createHash('sha1').update(block).digest('base64');
}
