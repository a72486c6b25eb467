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

interface KnownBase {
  volume: VolumeRow;
  journal: DamagedJournal;
}

/** Of a base that is read again: no more blocks than are told. */
const PIECE_BYTES = 16n * 1024n * 1024n;

export class BaseDamage {
  /** Damaged blocks that a comparison is to make up for, by base. */
  private readonly owed = new Map<string, Set<bigint>>();
  private working: Promise<void> = Promise.resolve();

  constructor(private readonly parts: BaseDamageParts) {}

  /**
   * Blocks of the base in `file` were found damaged, at these offsets; with BAD_OFFSETS_MAX of them there may be more. Never
   * fails: what fails is named in the log.
   */
  found(file: string, offsets: readonly bigint[]): void {
    if (offsets.length === 0) return;
    const isAll = offsets.length < BAD_OFFSETS_MAX;
    this.start(file, () => (isAll ? this.record(file, offsets) : this.recordAll(file)));
  }

  /** The volume was compared: what is still damaged of what was found meanwhile, nobody else will make up for. */
  compared(file: string): void {
    const offsets = this.owed.get(file) ?? [];
    this.owed.delete(file);
    this.found(file, [...offsets]);
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

  /** As found(), of all `offsets`; what fails is thrown. Errors: those of opening a point, and of the catalog. */
  async record(file: string, offsets: readonly bigint[]): Promise<void> {
    const base = this.base(file);
    if (base === null || base.volume.baseState !== 'BASE_COMPLETE') return;
    const { member } = base.volume;
    const firstLsn = this.firstHeld(base.volume);
    // Points of which it is found what they need must not be given up meanwhile.
    const release = this.parts.access.hold(member, firstLsn, 'a look at a damaged base');
    try {
      await this.recordFrom(firstLsn, base, file, offsets);
    } finally {
      release();
    }
  }

  /** Reads the whole base, and records what is damaged of it. Errors: as record, and those of scrubBase. */
  async recordAll(file: string): Promise<void> {
    const size = this.base(file)?.volume.size ?? 0n;
    for (let offset = 0n; offset < size; offset += PIECE_BYTES) {
      const { badOffsets } = await this.parts.native.scrubBase(file, size, offset, PIECE_BYTES);
      if (badOffsets.length > 0) await this.record(file, badOffsets);
    }
  }

  private async recordLost(file: string): Promise<void> {
    const { access, native, log } = this.parts;
    const volume = this.base(file)?.volume;
    if (volume?.baseState !== 'BASE_COMPLETE' || (await isThere(file))) return;
    log.error(
      { code: 'BASE_MISSING', base: file },
      'a base is not there any more: an empty one takes its place',
    );
    await access.withoutRoll(volume.member, () => native.loseBase(file, 0n, volume.syncOffset));
    await this.recordAll(file);
  }

  private async recordFrom(
    firstLsn: bigint,
    { volume, journal }: KnownBase,
    file: string,
    offsets: readonly bigint[],
  ): Promise<void> {
    const { catalog, log } = this.parts;
    journal.persist();
    const lastLsn = await this.needing(firstLsn, volume, journal, offsets);
    if (lastLsn === undefined) return;
    if (this.isKnown(volume, lastLsn)) {
      if (lastLsn === null) this.owe(file, offsets);
      return;
    }
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

  /** A comparison may have been past them already. */
  private owe(file: string, offsets: readonly bigint[]): void {
    const owed = this.owed.get(file) ?? new Set();
    this.owed.set(file, owed);
    for (const offset of offsets) if (owed.size < BAD_OFFSETS_MAX) owed.add(offset);
  }

  /** Whether record() would find nothing new. Errors: as record. */
  async isRecorded(file: string, offsets: readonly bigint[]): Promise<boolean> {
    const base = this.base(file);
    if (base === null) return false;
    const { volume, journal } = base;
    const lastLsn = await this.needing(this.firstHeld(volume), volume, journal, offsets);
    return lastLsn === undefined || this.isKnown(volume, lastLsn);
  }

  /** Null: of no volume, or its member's journal is not open. */
  private base(file: string): KnownBase | null {
    const { catalog, store } = this.parts;
    const volume = catalog.volumes.volumeWithUuid(store.volumeOf(file) ?? '');
    const journal = volume === null ? null : this.parts.journal(volume.member);
    return volume === null || journal === null ? null : { volume, journal };
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
    if (await this.isNeeded(volume, offsets, lsn)) return null;
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
    return catalog.baseDamage.damage(volume.member).some((row) => {
      if (row.number !== volume.number) return false;
      if (row.lastLsn !== null) return lastLsn !== null && lastLsn <= row.lastLsn;
      const end = generations.find(({ generation }) => generation === row.foundGeneration)?.lastLsn ?? null;
      return lastLsn === null ? this.isOpen(volume, row) : end !== null && lastLsn <= end;
    });
  }

  /**
   * Whether nothing was made up for since the newest instants were found damaged: every one that is graded is, and a
   * comparison of everything that is owed, or under way, meets the damage again and mends it.
   */
  private isOpen({ member, number }: VolumeRow, { foundGeneration }: BaseDamageRow): boolean {
    const { catalog } = this.parts;
    const later = catalog.generations
      .generations(member)
      .filter(({ generation }) => generation > foundGeneration);
    const isCompared = catalog.doubts.doubt(member, number).whole;
    const isOrdered = later.some(({ generation }) =>
      catalog.generations
        .volumes(member, generation)
        .some((volume) => volume.number === number && volume.orderedLsn !== null),
    );
    return later.length === 0 || (isCompared && !isOrdered);
  }
}
