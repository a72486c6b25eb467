/**
 * The receiver's store: journal, bases and catalog, with what is on stable storage kept apart from what is not (R4). A
 * crash loses the latter, wholly or in part.
 */
import { strict as assert } from 'node:assert';
import type {
  Checkpoint,
  DirtyLogPosition,
  GenerationBegin,
  Hello,
  VerifyDone,
  VolumeInfo,
} from '../../proto/replication.js';
import { fence, isBehind, isHeirOf } from '../../receiver/hello.js';
import { logAtHeartbeat, logAtHello, UNKNOWN_LOG } from '../../receiver/log_claims.js';
import type { KnownLog } from '../../receiver/log_claims.js';
import type { StoredPosition, StoredVolume, StoredWriter } from '../../receiver/session_events.js';
import type { ModelFrame, ModelRecord } from './model_capture.js';
import { apply, BLOCK_BYTES } from './model_host.js';
import type { Random } from './random.js';

export interface ModelGeneration {
  number: bigint;
  firstLsn: bigint;
  /** Numbers. */
  volumes: readonly number[];
  records: ModelRecord[];
  link: number;
  ended: boolean;
  orderedFromLsn: bigint | null;
}
interface ModelVolume extends StoredVolume {
  /** Records before it do not concern the base. */
  oldestLsn: bigint;
  /** Its `whole` is kept in the volume. */
  log: KnownLog;
  /** From where on it is known to be equal. */
  equalLsn: bigint;
}
/** What a verification has found: points from `firstLsn` on are damaged. */
export interface ModelDifference {
  volume: number;
  firstLsn: bigint;
  /** Null: up to the end of the generation. */
  lastLsn: bigint | null;
  generation: bigint;
}

/** What survives a crash. */
interface Contents {
  writer: StoredWriter | null;
  generations: ModelGeneration[];
  volumes: ModelVolume[];
  bases: number[][];
  checkpoints: Checkpoint[];
  differences: ModelDifference[];
}

export class ModelStore {
  #durable: Contents = {
    writer: null,
    generations: [],
    volumes: [],
    bases: [],
    checkpoints: [],
    differences: [],
  };
  /** Appended, not yet durable. */
  #appended: ModelFrame[] = [];
  /** The bases as the page cache has them. */
  #cached: number[][] = [];

  get writer(): StoredWriter | null {
    return this.#durable.writer;
  }
  get generations(): readonly ModelGeneration[] {
    return this.#durable.generations;
  }
  get volumes(): readonly ModelVolume[] {
    return this.#durable.volumes;
  }
  get bases(): readonly (readonly number[])[] {
    return this.#durable.bases;
  }
  get checkpoints(): readonly Checkpoint[] {
    return this.#durable.checkpoints;
  }
  get differences(): readonly ModelDifference[] {
    return this.#durable.differences;
  }
  get durableLsn(): bigint {
    const last = this.generations.at(-1);
    return last === undefined ? 0n : (last.records.at(-1)?.lsn ?? last.firstLsn - 1n);
  }

  /** `infos`: of a session. */
  position(infos: readonly VolumeInfo[]): StoredPosition {
    const last = this.generations.at(-1);
    return {
      generation: last?.number ?? 0n,
      firstLsn: last?.firstLsn ?? 1n,
      durableLsn: this.durableLsn,
      link: last?.link ?? 0,
      ended: last?.ended ?? false,
      volumes: this.#states(infos),
      leftSyncedLsns: (last?.volumes ?? [])
        .filter((number) => infos.every((info) => info.number !== number))
        .map((number) => this.#volume(number).syncedLsn),
    };
  }
  #states(infos: readonly VolumeInfo[]): StoredVolume[] {
    const present = this.#durable.generations.at(-1)?.volumes ?? [];
    return infos.map(({ number }) => {
      const volume = this.#volume(number);
      return { ...volume, syncedLsn: present.includes(number) ? volume.syncedLsn : 0n };
    });
  }

  /** False: a newer writer was first. */
  storeEpoch(hello: Hello): boolean {
    const { epoch, instance, volumes } = hello;
    if (fence(hello, this.writer) !== null) return false;
    const isHeir = this.writer === null || isHeirOf(hello, this.writer);
    const { generation, durableLsn } = this.position([]);
    const isDoubtful = !isHeir || isBehind(hello, { generation, durableLsn });
    this.#durable.writer = { epoch, instance };
    const newest = this.#durable.generations.at(-1);
    if (!isHeir && newest !== undefined) newest.ended = true;
    for (const info of volumes) {
      if (this.#durable.volumes.some((known) => known.info.number === info.number)) continue;
      this.#durable.volumes.push({
        info,
        base: 'BASE_EMPTY',
        syncOffset: 0n,
        syncedLsn: 0n,
        oldestLsn: 0n,
        whole: true,
        log: UNKNOWN_LOG,
        equalLsn: 1n,
      });
      this.#durable.bases[info.number] = emptyBase(info.size);
      this.#cached[info.number] = emptyBase(info.size);
    }
    if (isDoubtful) for (const volume of this.#durable.volumes) volume.whole = true;
    for (const { number } of volumes) {
      const volume = this.#volume(number);
      const claim = hello.logs.find((log) => log.volume === volume.info.number);
      volume.log = logAtHello({ ...volume.log, whole: volume.whole }, claim, durableLsn);
      volume.whole = volume.log.whole;
    }
    return true;
  }
  heartbeatLogs(logs: readonly DirtyLogPosition[]): void {
    for (const claim of logs) {
      const volume = this.#volume(claim.volume);
      volume.log = logAtHeartbeat({ ...volume.log, whole: volume.whole }, claim);
      volume.whole = volume.log.whole;
    }
  }
  storeDoubt(number: number): void {
    this.#volume(number).whole = true;
  }

  /** Null: it waits for `commit`. The order of frames is the session's to see to; the real journal checks it again. */
  append(frame: ModelFrame): string | null {
    const generation = this.#last();
    const tail = this.#appended.at(-1)?.header;
    const lastLsn = tail?.lastLsn ?? this.durableLsn;
    const { header } = frame;
    if (frame.isCorrupt) return 'FRAME_CORRUPT';
    assert(header.epoch === this.writer?.epoch, 'a frame of a writer that was replaced');
    assert(header.generation === generation.number && !generation.ended, 'a frame of another generation');
    assert(header.firstLsn === lastLsn + 1n, `R5: LSN ${header.firstLsn} is appended after ${lastLsn}`);
    assert(
      header.link === (tail?.headerCrc ?? generation.link),
      'R5: a frame that does not follow the last one',
    );
    this.#appended.push(frame);
    return null;
  }
  /** One fdatasync: everything appended is durable. */
  commit(): void {
    for (const { header, records } of this.#appended.splice(0)) {
      const generation = this.#last();
      generation.records.push(...records);
      generation.link = header.headerCrc;
    }
  }

  endGeneration(): void {
    this.#last().ended = true;
  }
  beginGeneration({ generation, firstLsn, volumes }: GenerationBegin): StoredVolume[] {
    assert(this.#appended.length === 0, 'a generation begins when everything before is durable');
    this.#durable.generations.push({
      number: generation,
      firstLsn,
      volumes: volumes.map(({ number }) => number),
      records: [],
      link: 0,
      ended: false,
      orderedFromLsn: null,
    });
    for (const { number } of volumes) {
      const volume = this.#volume(number);
      volume.syncedLsn = 0n;
      // Only a base that nothing rests on is emptied (R6); receiver/session_store.ts does the same.
      if (volume.base === 'BASE_COMPLETE') continue;
      Object.assign(volume, { base: 'BASE_EMPTY', syncOffset: 0n, oldestLsn: firstLsn });
    }
    return this.#states(volumes);
  }

  beginBase(number: number): void {
    const volume = this.#volume(number);
    assert(volume.base === 'BASE_EMPTY', 'only an empty base is begun');
    assert(this.#last().volumes.includes(number), 'a volume is synced in a generation that has it');
    this.#cached[number] = emptyBase(volume.info.size);
    this.#durable.bases[number] = emptyBase(volume.info.size);
    volume.base = 'BASE_SYNCING';
  }
  writeBase(number: number, offset: bigint, values: number[]): void {
    assert(this.#volume(number).base === 'BASE_SYNCING', 'a base is written by an initial sync only (R6)');
    this.#cached[number]?.splice(Number(offset) / BLOCK_BYTES, values.length, ...values);
  }
  syncBase(number: number, offset: bigint): void {
    this.#durable.bases[number] = [...(this.#cached[number] ?? [])];
    this.#volume(number).syncOffset = offset;
  }
  markSynced(number: number, lsn: bigint, isWhole: boolean): void {
    const volume = this.#volume(number);
    assert(
      volume.base === 'BASE_COMPLETE' || volume.syncOffset === volume.info.size,
      'a base is complete when it is durable',
    );
    volume.base = 'BASE_COMPLETE';
    volume.syncedLsn = lsn;
    assert(isWhole || !volume.whole, 'a partial resync of a volume that is in doubt as a whole');
    if (isWhole) Object.assign(volume, { whole: false, equalLsn: lsn });
    // As receiver/timeline.ts finds it.
    const synced = this.#last().volumes.map((each) => this.#volume(each).syncedLsn);
    if (synced.every((each) => each > 0n)) {
      this.#last().orderedFromLsn = synced.reduce((left, right) => (left > right ? left : right));
    }
  }
  /** As receiver/session_store.ts does. */
  storeVerified({ volume: number, beginLsn, endLsn, differingBytes, complete }: VerifyDone): void {
    assert(endLsn <= this.durableLsn, 'a comparison of what is not durable');
    const volume = this.#volume(number);
    const { differences } = this.#durable;
    const generation = this.#last().number;
    const isOpen = (row: ModelDifference): boolean =>
      row.volume === number && row.lastLsn === null && row.generation === generation;
    if (differingBytes > 0n && !differences.some(isOpen))
      differences.push({ volume: number, firstLsn: volume.equalLsn, lastLsn: null, generation });
    if (!complete) {
      volume.whole = true;
      return;
    }
    this.#durable.differences = differences.map((row) =>
      isOpen(row) ? { ...row, lastLsn: endLsn - 1n } : row,
    );
    volume.equalLsn = differingBytes === 0n ? beginLsn : endLsn;
  }
  keepCheckpoint(checkpoint: Checkpoint): void {
    const { orderedFromLsn } = this.#last();
    assert(
      orderedFromLsn !== null && checkpoint.lsn >= orderedFromLsn,
      'a checkpoint where nothing is ordered',
    );
    assert(checkpoint.lsn <= this.durableLsn, 'a checkpoint of what is not durable');
    this.#durable.checkpoints.push(checkpoint);
  }

  /** The content itself stands for its hash. */
  hashes(number: number, offset: bigint, length: number, blockBytes: number, beforeLsn: bigint): Buffer {
    const state = this.bases.map((blocks) => [...blocks]);
    for (const { records } of this.generations) {
      for (const { lsn, changes } of records) {
        if (lsn >= beforeLsn) break;
        for (const change of changes) if (lsn >= this.#volume(change.volume).oldestLsn) apply(state, change);
      }
    }
    const first = Number(offset) / BLOCK_BYTES;
    return contentHashes((state[number] ?? []).slice(first, first + length / BLOCK_BYTES), blockBytes);
  }

  /** Of what was not durable, some may have reached the disk: frames from the front, any block of a base. */
  crash(random: Random): void {
    this.#appended.splice(random.int(0, this.#appended.length));
    this.commit();
    this.#durable.bases = this.#durable.bases.map((blocks, number) =>
      blocks.map((value, block) => (random.chance(0.5) ? (this.#cached[number]?.[block] ?? 0) : value)),
    );
    this.#cached = this.#durable.bases.map((blocks) => [...blocks]);
  }

  copy(): Contents {
    const { writer, generations, volumes, bases, checkpoints, differences } = this.#durable;
    return {
      writer,
      generations: generations.map((generation) => ({ ...generation, records: [...generation.records] })),
      volumes: volumes.map((volume) => ({ ...volume })),
      bases: bases.map((blocks) => [...blocks]),
      checkpoints: [...checkpoints],
      differences: differences.map((row) => ({ ...row })),
    };
  }
  restore(contents: Contents): void {
    this.#durable = contents;
    this.#cached = contents.bases.map((blocks) => [...blocks]);
    this.#appended = [];
  }

  #last(): ModelGeneration {
    const last = this.#durable.generations.at(-1);
    assert(last !== undefined, 'a generation was begun');
    return last;
  }
  #volume(number: number): ModelVolume {
    const volume = this.#durable.volumes.find(({ info }) => info.number === number);
    assert(volume !== undefined, `volume ${number} is known`);
    return volume;
  }
}

export type StoreCopy = ReturnType<ModelStore['copy']>;

/** 32 bytes a block of `blockBytes`: its sectors' contents. */
export function contentHashes(values: number[], blockBytes: number): Buffer {
  const sectors = blockBytes / BLOCK_BYTES;
  const hashes = Buffer.alloc(Math.ceil(values.length / sectors) * 32);
  values.forEach((value, index) => {
    hashes.writeInt32LE(value, Math.floor(index / sectors) * 32 + (index % sectors) * 4);
  });
  return hashes;
}

function emptyBase(size: bigint): number[] {
  return new Array<number>(Number(size) / BLOCK_BYTES).fill(0);
}
