/**
 * Damaged blocks of base images, and images that are lost (R5): which instants need them is found by opening points, and recorded. A block matters
 * from the base on until records have written over all of it; where the newest point still needs it the present generation
 * ends, so that the agent compares, and sends it again if its volume still has it.
 */
import { BAD_OFFSETS_MAX, BASE_BLOCK_BYTES } from '../native/index.js';
import type * as native from '../native/index.js';
import { toAfterimageError } from '../proto/errors.js';
import { higher } from '../proto/watermarks.js';
import type { Log } from '../service/log.js';
import type { BaseAccess } from './base_access.js';
import type { Catalog } from './catalog/catalog.js';
import type { BaseDamageRow } from './catalog/base_damage.js';
import type { VolumeRow } from './catalog/volumes.js';
import { endInDoubt } from './journal/damage_record.js';
import type { HeldDevice, Points } from './points.js';
import { isThere, type Store } from './store.js';

export interface BaseDamageParts {
  catalog: Catalog;
  store: Store;
  access: BaseAccess;
  /** That open points without telling this of what they find. */
  points: Pick<Points, 'hold'>;
  native: Pick<typeof native, 'loseBase' | 'scrubBase'>;
  /** Of a member whose journal is open, or null. */
  journal: (uuid: string) => DamagedJournal | null;
  log: Log;
}
/** What is needed of a journal over a base that is damaged. */
export interface DamagedJournal {
  readonly durableLsn: bigint;
  /** Brings the catalog up to date. */
  persist(): void;
  timeAt(lsn: bigint): Promise<bigint | null>;
  /** Ends the sessions that append to it. */
  stop(): Promise<void>;
}

/** Of a base that is read again, at a time. */
const PIECE_BYTES = 64n * 1024n * 1024n;

export class BaseDamage {
  private working: Promise<void> = Promise.resolve();

  constructor(private readonly parts: BaseDamageParts) {}

  /** Blocks of the base in `file` were found damaged, at these offsets. Never fails: what fails is named in the log. */
  found(file: string, offsets: readonly bigint[]): void {
    if (offsets.length > 0) this.start(file, () => this.record(file, offsets));
  }

  /** There was no base in `file`, where there should be one. Never fails, as found(). */
  lost(file: string): void {
    this.start(file, () => this.recordLost(file));
  }

  /** Looks for every complete base of the catalog. Never fails, as found(). */
  lookForLost(): void {
    const { catalog, store } = this.parts;
    for (const { uuid, group } of catalog.members
      .groups()
      .flatMap(({ uuid }) => catalog.members.members(uuid))) {
      for (const volume of catalog.volumes.volumes(uuid)) this.lost(store.baseFile(group, uuid, volume.uuid));
    }
  }

  private start(file: string, work: () => Promise<void>): void {
    this.working = this.working.then(work).catch((thrown: unknown) => {
      this.parts.log.error(
        { err: toAfterimageError(thrown), base: file },
        'damage of a base could not be recorded',
      );
    });
  }

  /** Waits for what is being recorded. */
  async idle(): Promise<void> {
    for (let seen: Promise<void> | null = null; seen !== this.working;) {
      seen = this.working;
      await seen;
    }
  }

  /** As found(), but what fails is thrown. Errors: those of opening a point, and of the catalog. */
  async record(file: string, offsets: readonly bigint[]): Promise<void> {
    const { catalog, store } = this.parts;
    const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
    const journal = volume === null ? null : this.parts.journal(volume.member);
    if (volume === null || journal === null || volume.baseState !== 'BASE_COMPLETE') return;
    const firstLsn = this.firstHeld(volume);
    // Points of which it is found what they need must not be given up meanwhile.
    const release = this.parts.access.hold(volume.member, firstLsn, 'a look at a damaged base');
    try {
      await this.recordFrom(firstLsn, volume, journal, file, offsets);
    } finally {
      release();
    }
  }

  private async recordLost(file: string): Promise<void> {
    const { catalog, store, access, native, log } = this.parts;
    const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
    if (volume === null || this.parts.journal(volume.member) === null) return;
    if (volume.baseState !== 'BASE_COMPLETE' || (await isThere(file))) return;
    log.error(
      { code: 'BASE_MISSING', base: file },
      'a base is not there any more: an empty one takes its place',
    );
    const offsets = await access.withoutRoll(volume.member, () =>
      loseBlocks(native, file, 0n, volume.syncOffset),
    );
    await this.record(file, offsets);
  }

  private async recordFrom(
    firstLsn: bigint,
    volume: VolumeRow,
    journal: DamagedJournal,
    file: string,
    offsets: readonly bigint[],
  ): Promise<void> {
    const { catalog, log } = this.parts;
    journal.persist();
    const lastLsn = await this.needing(firstLsn, volume, journal, offsets);
    if (lastLsn === undefined || this.isKnown(volume, lastLsn)) return;
    log.error(
      { code: 'BASE_CORRUPT', base: file, offsets: offsets.slice(0, 8), firstLsn, lastLsn },
      'blocks of a base are not what was written: instants that need them are graded damaged',
    );
    // A session in the generation that ends would go on in it.
    if (lastLsn === null) await journal.stop();
    journal.persist();
    const last = catalog.segments.last(volume.member);
    const row: BaseDamageRow = {
      member: volume.member,
      number: volume.number,
      firstLsn,
      lastLsn,
      lastTimeNs: lastLsn === null ? null : await journal.timeAt(lastLsn),
      foundGeneration: catalog.generations.newest(volume.member)?.generation ?? 0n,
      reason: `BASE_CORRUPT: ${volume.name}, blocks damaged: ${offsets.length}, the first at byte ${offsets[0] ?? 0n}`,
    };
    catalog.atomically(() => {
      catalog.baseDamage.add(row);
      const end = { lastLsn: journal.durableLsn, lastTimeNs: last?.lastTimeNs ?? 0n };
      if (lastLsn === null) endInDoubt(catalog, volume.member, end, 'BASE_CORRUPT');
    });
  }

  /** Whether record() would find nothing new. Errors: as record. */
  async isRecorded(file: string, offsets: readonly bigint[]): Promise<boolean> {
    const { catalog, store } = this.parts;
    const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
    const journal = volume === null ? null : this.parts.journal(volume.member);
    if (volume === null || journal === null) return false;
    const lastLsn = await this.needing(this.firstHeld(volume), volume, journal, offsets);
    return lastLsn === undefined || this.isKnown(volume, lastLsn);
  }

  /** The oldest point over the base that can be had: while retention moves it, that lies behind what it is the base of. */
  private firstHeld({ member, baseLsn }: VolumeRow): bigint {
    return higher(baseLsn, this.parts.catalog.windows.held(member).oldestLsn);
  }

  /** Up to where points need one of the blocks, null: the newest does; undefined: none does. */
  private async needing(
    firstLsn: bigint,
    volume: VolumeRow,
    { durableLsn }: DamagedJournal,
    offsets: readonly bigint[],
  ): Promise<bigint | null | undefined> {
    const lsn = higher(durableLsn, firstLsn);
    // It may have been written over meanwhile, or been a disk's trouble of a moment.
    if (!(await this.isNeeded(volume, offsets, firstLsn))) return undefined;
    return this.lastNeeding(firstLsn, volume, offsets, lsn);
  }

  /** The last LSN up to `lsn` that needs one of the blocks; null: `lsn` itself does. Once one does not, none after it does. */
  private async lastNeeding(
    firstLsn: bigint,
    volume: VolumeRow,
    offsets: readonly bigint[],
    lsn: bigint,
  ): Promise<bigint | null> {
    const isComplete = offsets.length < BAD_OFFSETS_MAX;
    if (!isComplete || (await this.isNeeded(volume, offsets, lsn))) return null;
    let needing = firstLsn;
    for (let free = lsn; needing + 1n < free;) {
      const middle = (needing + free) / 2n;
      if (await this.isNeeded(volume, offsets, middle)) needing = middle;
      else free = middle;
    }
    return needing;
  }

  private async isNeeded(volume: VolumeRow, offsets: readonly bigint[], lsn: bigint): Promise<boolean> {
    const { catalog, points } = this.parts;
    const row = catalog.members.member(volume.member);
    if (row === null) return false;
    let held: HeldDevice | null = null;
    try {
      held = await points.hold(volume, volume.size, row, lsn, 'a look at a damaged base');
      for (const offset of offsets) {
        const left = volume.size - offset;
        const bytes = left < BASE_BLOCK_BYTES ? left : BASE_BLOCK_BYTES;
        if (bytes > 0n) await held.device.read(offset, Buffer.allocUnsafe(Number(bytes)));
      }
      return false;
    } catch (thrown) {
      const { code } = toAfterimageError(thrown);
      // A hole of the journal behind the base: nobody can say that it was written over.
      if (code === 'IO_ERROR' || code === 'SEGMENT_CORRUPT' || code === 'POINT_UNKNOWN') return true;
      throw thrown;
    } finally {
      await held?.device.close();
      held?.release();
    }
  }

  private isKnown(volume: VolumeRow, lastLsn: bigint | null): boolean {
    const { catalog } = this.parts;
    const generations = catalog.generations.generations(volume.member);
    const newest = generations.at(-1)?.generation ?? 0n;
    // A comparison of everything that is owed, and perhaps under way, meets the same damage again and mends it.
    const isCompared = catalog.doubts.doubt(volume.member, volume.number).whole;
    return catalog.baseDamage.damage(volume.member).some((row) => {
      if (row.number !== volume.number) return false;
      if (row.lastLsn !== null) return lastLsn !== null && lastLsn <= row.lastLsn;
      const end = generations.find(({ generation }) => generation === row.foundGeneration)?.lastLsn ?? null;
      return lastLsn === null ? isCompared || row.foundGeneration === newest : end !== null && lastLsn <= end;
    });
  }
}

/**
 * What the base in `file` held from `offset` on is gone: makes it `size` bytes long, and returns the offsets of its damaged
 * blocks. Errors: those of loseBase and scrubBase.
 */
export async function loseBlocks(
  native: BaseDamageParts['native'],
  file: string,
  offset: bigint,
  size: bigint,
): Promise<bigint[]> {
  await native.loseBase(file, offset, size);
  const offsets: bigint[] = [];
  for (let at = 0n; at < size; at += PIECE_BYTES) {
    offsets.push(...(await native.scrubBase(file, size, at, PIECE_BYTES)).badOffsets);
  }
  return offsets;
}
